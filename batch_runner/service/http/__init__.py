"""A service reached over HTTP: Anchor's cloud, or our own `serve`.

classify.py    what an error or an HTTP status says of a start: whether a run can exist, and whom a refusal concerns
client.py      a service over HTTP, behind the three verbs
response.py    an answer: its body within bounds, its run or message; the limits that it tells
transport.py   httpx's transport over aiohttp's connections, and the proxy that the environment names
"""
