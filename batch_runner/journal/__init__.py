"""The durable record of what was sent and what came back. What a row's history means is decided in `history` only.

journal.py  a running batch's events, each on disk before the next step
history.py  a row's attempts → send, follow, carry, refuse
places.py   tonight's rows find their history
batches.py  what a batch says of itself, and whether it may go on with this journal
reading.py  outcomes, counts, nights, a row's story
timing.py   when runs began and ended
commits.py  group commit
file.py     the file: made whole, and looked over before it is trusted
reserve.py  room on the disk for what is in flight
lock.py     one batch at a time
schema.py   the tables
"""

from batch_runner.journal.batches import BatchInfo
from batch_runner.journal.history import Carry, Entry, Follow, Leave, Plan, Policy, Refuse, Send
from batch_runner.journal.journal import Journal, Outcome
from batch_runner.journal.reading import Batch, Count, Failures, JournalView, Placed, Since, Try
from batch_runner.journal.timing import Span

__all__ = [
    "Batch",
    "BatchInfo",
    "Carry",
    "Count",
    "Entry",
    "Failures",
    "Follow",
    "Journal",
    "JournalView",
    "Leave",
    "Outcome",
    "Placed",
    "Plan",
    "Policy",
    "Refuse",
    "Send",
    "Since",
    "Span",
    "Try",
]
