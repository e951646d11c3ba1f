"""How good an answer is: metrics with intervals, reliability."""
