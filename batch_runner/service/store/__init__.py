"""Where runs are kept: what is known of a run once it was started, and when it has ended.

store.py      the seam, `Store`: what is recorded, what can be asked
memory.py     for a service within the program: gone with it
file.py       for `serve`: in SQLite, so that a restart knows them
opening.py    that file made, held by one service at a time, looked over, and what a kill left in it ended
schema.py     its tables
"""
