"""HTTP server: `app.py` adds HTTP to handlers, parsers, a queue before the model, and responses."""
