"""Whoever runs tasks, behind three verbs: start a run, look at it, stop it.

protocol.py  the three verbs, what each can answer, and the wire types of the Tasks API v2
http/        A service reached over HTTP: Anchor's cloud, or our own `serve`.
local/       The embedded service: it runs tasks in this process, in worker processes, or on Dask.
serve/       The embedded service behind a port.
"""
