"""One start, one poll: httpx over aiohttp; says of each failure whether a run can exist."""
