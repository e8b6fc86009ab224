"""The embedded service behind a port.

app.py     the routes of the Tasks API v2, and what a request asks for: every refusal an ErrorResponse
server.py  the embedded service on a port: of this machine alone, or, with a key, for others too
"""
