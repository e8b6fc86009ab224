"""One batch over one sheet: one producer → a bounded stream → workers → the journal.

pool.py      the batch: reads rows, places them in the journal, hands them to the workers
worker.py    one row from its plan to its outcome
canary.py    the first few rows go alone
patience.py  when starting stops because no start gets through
stopping.py  when starting stops before the last row, and why
"""
