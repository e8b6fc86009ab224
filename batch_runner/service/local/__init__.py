"""The embedded service: it runs tasks in this process, in worker processes, or on Dask.

context.py       what a task is given: its params (`@task`), its files folder, its log; and what it prints
process_pool.py  where tasks run: async ones in this loop, sync ones in worker processes
result.py        how a run ends: a status, a result and a sentence, made of what the task returned or raised
runs.py          what becomes of a run: queued → running → success | failure | timeout | cancelled
service.py       the embedded service as a whole, behind the three verbs
store.py         where runs are kept: the seam, and the store in memory
store_file.py    runs kept in a file: known after a restart, forgotten when old enough
tasks.py         which tasks there are, and what a task's function is given
worker_main.py   a worker process from its own side: calls on standard input, results on standard output
dask/            Sync tasks on a Dask cluster.
invoice/         The built-in task `invoice`: reads a PDF in the files folder.
"""
