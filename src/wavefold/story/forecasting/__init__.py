"""The story of frames: read a series, cut windows, split by time, fit nets, judge by lead time, forecast."""
