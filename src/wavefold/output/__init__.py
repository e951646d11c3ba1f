"""What a run hands out: predictions in the files that people and contests take."""

from wavefold.output.predictions import WRITERS, Predictions, write_predictions

__all__ = ["WRITERS", "Predictions", "write_predictions"]
