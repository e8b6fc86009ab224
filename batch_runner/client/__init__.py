"""One start, one poll: httpx over aiohttp; says of each failure whether a run can exist.

client.py     start and poll
features.py   what our own service can do beyond the API
fate.py       whether a run can exist after an error or a status: the table
request.py    what is sent: addresses, headers, timeouts
body.py       an answer's body: whole, decoded, never endless
answer.py     the run that a body tells, or the message
signals.py    what an answer says of the service's limits
veil.py       the key, kept out of what is sent back
proxies.py    the proxy that the environment names
transport.py  httpx's transport over aiohttp's connections
"""
