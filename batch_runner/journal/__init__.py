"""The durable record of what was sent and what came back. What a row's history means is decided in `history` only.

journal.py  a running batch's events, each on disk before the next step
rehearsal.py  a batch that is only tried, on a copy
history.py  a row's attempts → send, follow, carry, refuse
duplicates.py  rows that are alike: only one of them may run
places.py   tonight's rows find their history
twins.py    rows with the same key find each its own
batches.py  what a batch says of itself, and whether it may go on with this journal
since.py    how the sheet differs from that of the night before
resolving.py  what a person found out about an unknown row
sheets.py   the sheets of a journal, of which a person means one
living.py   a batch that runs: its starts are awaited, not lost
reading.py  outcomes, counts, nights, a row's story
timing.py   when runs began and ended
commits.py  group commit
file.py     the file: made whole, and looked over before it is trusted
reserve.py  room on the disk for what is in flight
lock.py     one batch at a time
schema.py   the tables
"""

from batch_runner.journal.batches import BatchInfo, Turn, command_gone_on_with
from batch_runner.journal.history import Carry, Entry, Follow, Leave, Plan, Policy, Refuse, Send, Settle
from batch_runner.journal.journal import Journal, Outcome
from batch_runner.journal.lock import look_at_place
from batch_runner.journal.reading import Batch, Count, Failures, JournalView, Placed, Resolution, Try
from batch_runner.journal.rehearsal import rehearsed
from batch_runner.journal.resolving import Verdict, resolve
from batch_runner.journal.sheets import Sheet, sheet_of
from batch_runner.journal.since import Held, Since, Unsettled
from batch_runner.journal.timing import Span

__all__ = [
    "Batch",
    "BatchInfo",
    "Carry",
    "Count",
    "Entry",
    "Failures",
    "Follow",
    "Held",
    "Journal",
    "JournalView",
    "Leave",
    "Outcome",
    "Placed",
    "Plan",
    "Policy",
    "Refuse",
    "Resolution",
    "Send",
    "Settle",
    "Sheet",
    "Since",
    "Span",
    "Try",
    "Turn",
    "Unsettled",
    "Verdict",
    "command_gone_on_with",
    "look_at_place",
    "rehearsed",
    "resolve",
    "sheet_of",
]
