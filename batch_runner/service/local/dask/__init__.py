"""Sync tasks on a Dask cluster.

bundle.py         what goes to a Dask worker, and what comes back
cluster.py        runs sync functions on a Dask cluster, and says what becomes of calls that were lost
connection.py     the way to the scheduler: found, checked, kept, and found again; whether it can run calls now
worker_plugin.py  the Dask worker's side, and the scheduler's record of what was begun
"""
