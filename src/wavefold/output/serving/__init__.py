"""What stands behind the server: bodies in, the queue to the model, answers out; `output/serve.py` puts it behind HTTP."""
