"""The server without HTTP: parsing bodies, queueing for the model, writing responses; `output/serve.py` adds HTTP."""
