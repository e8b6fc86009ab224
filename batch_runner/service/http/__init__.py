"""A service reached over HTTP: Anchor's cloud, or our own `serve`.

classify.py    what an error or an HTTP status says of a start: whether a run can exist, and whom a refusal concerns
client.py      a service over HTTP, behind the three verbs
rate_limit.py  what an answer says of the service's limits: when to come back, how much of the quota is left
response.py    the body of an answer: read within bounds, its run or message found, the API key redacted
transport.py   httpx's transport over aiohttp's connections, and the proxy that the environment names
"""
