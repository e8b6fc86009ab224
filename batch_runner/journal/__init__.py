"""The durable record of what was sent and what came back.

batches.py       the batches of a journal: what each says of itself, whether it may go on, and the lock that it holds
changes.py       how the sheet of a batch differs from that of the night before; and which rows were held back
database.py      the journal's file and its tables: made whole or not at all, and checked before it is trusted
same_key.py      rows with the same key or the same dedup key: which history is whose, and which of them may run
group_commit.py  group commit: whoever waits is told when the commit that holds their event is on disk
index.py         all journals of a task on a service: an index in the state folder, and what lies beside
journal.py       the journal of a running batch: every event is on disk before the next step is taken
outputs.py       what the journal remembers of outputs, and learns from them: files as written, runs that only they have
register.py      the rows of tonight's sheet find their place in the journal, and with it their history
resolve.py       what became of an attempt, by the service's word or a person's; and what rows are known by
view.py          looks into a journal without touching it: outcomes, batches, times, sheets, one row's story
"""
