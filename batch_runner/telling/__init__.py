"""People and their services are told how a batch went. If that fails, the log says so, and the batch goes its way.

telling.py    who is told what and when, in threads beside the batch, in bounded time
heartbeat.py  pings: start, success, failure
notices.py    messages through apprise
message.py    what leaves the house: counts, row numbers and paths, and nothing that a cell or a result holds
"""
