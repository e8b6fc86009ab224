"""The embedded service behind a port.

app.py      the routes of the Tasks API v2: JSON in, JSON out, every refusal an ErrorResponse
request.py  what a request asks for, read and judged: what makes no sense is a 400 that names it
server.py   the embedded service on a port: of this machine alone, or, with a key, for others too
"""
