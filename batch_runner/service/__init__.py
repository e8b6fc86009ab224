"""The embedded service: the Tasks API v2 over tasks that run here.

    service.py    the service as a whole: what `run` holds in process and `serve` listens with
    server.py     the same service on a port, and its orderly end
    doors.py      whom it lets in: by the host that was asked for, and by the key
    app.py        routes: JSON in, JSON out
    answers.py    how answers and refusals look
    asked.py      what a start asks for: its body, its key, its row
    runs.py       what becomes of a run: queued, running, ended
    turns.py      what a run waits for
    store/        where runs are kept: in memory, or in a file that a restart knows
    executors.py  where a task runs: the seam, and the event loop
    workers.py    worker processes of this machine, from their parent's side
    worker.py     a worker process from its own side
    cluster/      a Dask cluster
    tasks.py      which tasks there are, and what a task's function is given
    signature.py  `@task`, and what a function's signature says of its inputs
    tasklog.py    the log of a task, from wherever it runs to the log of the program
    endings.py    how a run ends
    invoice/      the built-in task
    files.py      the one folder that tasks may read

Only `cli` and tests import this package. Its modules are imported one by one, because a worker process needs few.
"""
