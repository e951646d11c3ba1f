"""Wavefold: from labelled scientific signals to trained, honest, usable predictions."""

__version__ = "0.1.0"
