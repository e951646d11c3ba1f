"""The way of frames: read a series, cut windows, split by time, fit nets, evaluate by lead time, forecast."""
