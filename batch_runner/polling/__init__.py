"""When to look at a run next, and the watch that does it.

watch.py      follows all runs of a batch to their ends
schedule.py   which run to look at next, and when; pure
durations.py  how long this batch's runs take, and what a look is worth; pure
budget.py     the polls that a batch may spend; pure
"""
