"""Concurrency and rate, shared by all workers and moved by what the service says.

limits.py     slots, and the one line in which starts wait for their turn
pace.py       when the next start may go out; pure
capacity.py   how many runs the service carries at once; pure
openfiles.py  how many the process's limit of open files allows
"""
