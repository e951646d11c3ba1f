"""Samples to classes: read, validate, fit, evaluate, predict."""
