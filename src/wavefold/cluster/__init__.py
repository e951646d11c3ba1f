"""Training on several processes or machines with Dask: `client.py` here, `worker.py` there."""
