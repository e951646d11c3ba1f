"""Write the results of a run: prediction files, tables, pictures, pages and a server."""

from wavefold.output.predictions import WRITERS, Predictions, check_target, write_predictions
from wavefold.output.table import lead_table, score_table

__all__ = ["WRITERS", "Predictions", "check_target", "lead_table", "score_table", "write_predictions"]
