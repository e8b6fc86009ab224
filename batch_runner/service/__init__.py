"""The embedded service: the Tasks API v2 over tasks that run here.

    service.py    the service as a whole: what `run` holds in process and `serve` listens with
    server.py     the same service on a port of 127.0.0.1
    app.py        routes: JSON in, JSON out
    runs.py       what becomes of a run: queued, running, ended
    executors.py  where a task runs: the seam, and the event loop
    workers.py    worker processes of this machine, from their parent's side
    worker.py     a worker process from its own side
    cluster/      a Dask cluster
    tasks.py      which tasks there are, and what a task's function is given
    endings.py    how a run ends
    invoice/      the built-in task
    files.py      the one folder that tasks may read

Only `cli` and tests import this package. Its modules are imported one by one, because a worker process needs few.
"""
