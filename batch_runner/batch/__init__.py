"""One batch over one sheet: one producer → a bounded stream → workers → the journal.

pool.py           the batch: reads rows, places them in the journal, hands them to the workers
placing.py        the sheet's rows find their place in the journal
start.py          a row's start over all its tries, and whether its lost answer can be asked for
worker.py         one row from its plan to its outcome
poller.py         follows all runs to their ends
poll_schedule.py  which run to look at next, and when; pure
attempt.py        one try to start a run, and what the log says of it
canary.py         the first few rows go alone
patience.py       when starting stops because no start gets through
stopping.py       when starting stops before the last row, and why
"""
