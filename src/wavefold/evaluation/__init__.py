"""Evaluation: metrics with confidence intervals, and reliability."""
