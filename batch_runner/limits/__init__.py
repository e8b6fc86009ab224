"""Concurrency and rate, shared by all workers and moved by what the service says."""
