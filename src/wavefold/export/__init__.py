"""Runs as ONNX files."""
