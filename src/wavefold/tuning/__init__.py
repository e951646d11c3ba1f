"""A search over a recipe's `[tune]`: `study.py` proposes and remembers, `trials.py` trains."""
