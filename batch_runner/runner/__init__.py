"""Opens a job, connects its service, runs the batch, writes the end.

connect.py  which service runs the tasks, and how it is reached
night.py    a night: one job, its inputs, one batch for each
memory.py   which journal a job goes on with, and which other journals know what its task ran for
run.py      a job is opened, run, and summed up
adjust.py   the concurrency of a running batch, changed by a file beside its journal
check.py    everything short of sending: what `check` shows, with the plan
"""
