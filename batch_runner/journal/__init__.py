"""The durable record of what was sent and what came back. What a row's history means is decided in `history` only.

journal   a running batch's events, each on disk before the next step
history   a row's attempts → send, follow, carry, refuse
reading   outcomes, counts, nights, a row's story
places    tonight's rows find their history · batches · commits (group commit) · file · lock · schema
"""

from batch_runner.journal.batches import BatchInfo
from batch_runner.journal.history import Carry, Entry, Follow, Leave, Plan, Policy, Refuse, Send
from batch_runner.journal.journal import Journal, Outcome
from batch_runner.journal.reading import Batch, Count, Failures, JournalView, Placed, Try

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
    "Try",
]
