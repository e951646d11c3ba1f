"""The steps that `pipeline` runs; each imports only the packages it needs, and none imports `pipeline`."""
