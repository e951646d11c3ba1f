"""Classification of samples: read, validate, fit, evaluate, predict."""
