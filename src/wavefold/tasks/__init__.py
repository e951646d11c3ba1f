"""The tasks: classification of samples and forecasting of frames."""
