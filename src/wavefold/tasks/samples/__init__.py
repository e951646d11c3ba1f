"""The way of labelled samples, whatever their target: read, validate, split, fit, evaluate, predict."""
