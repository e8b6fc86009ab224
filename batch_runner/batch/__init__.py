"""One batch: a pool of workers brings rows to their outcomes.

attempts.py       what is on its way: a sheet, a try to start a run, a run; and what a few tries tell of all
limits.py         concurrency and rate, shared by all workers and moved by what the service says
pool.py           the pool: one producer, a bounded stream, and workers that bring each row to its outcome
stop.py           when a batch stops starting runs before its last row, and why; how long it tries again
worker.py         one row from its plan to its outcome: each step is recorded before the next
poll_schedule.py  which run to look at next, and when. Pure: times are passed in
poller.py         follows all runs of a batch to their ends
"""
