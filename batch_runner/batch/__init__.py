"""The anyio pool: one producer → a bounded stream → workers → the journal."""
