"""What a run hands out: predictions in the files that people and contests take."""

from wavefold.output.predictions import WRITERS, Predictions, write_predictions
from wavefold.output.table import score_table

__all__ = ["WRITERS", "Predictions", "score_table", "write_predictions"]
