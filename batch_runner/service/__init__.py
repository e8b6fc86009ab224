"""The embedded service: the Tasks API v2, served by this program."""
