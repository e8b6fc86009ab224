"""Whoever speaks the Tasks API: over HTTP, or embedded in this process.

wire.py   the wire types of the Tasks API v2, shared by client and service
cluster/
http/     A service reached over HTTP: Anchor's cloud, or our own `serve`.
invoice/
local/    The embedded service: it runs tasks in this process, in worker processes, or on Dask.
serve/    The embedded service behind a port.
store/
"""
