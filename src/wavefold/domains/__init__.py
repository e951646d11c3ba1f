"""Fields of science, one package each, found through the entry-point group `wavefold.domains`."""
