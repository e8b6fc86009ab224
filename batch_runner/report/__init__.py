"""What a batch came to, told to people: summary, report, notices.

html.py     the report: one page for people about one batch
notify.py   people and services are told how a batch went
stats.py    the figures of a report: times, failures, run times, and its headline
summary.py  what a batch came to: text for a person, JSON for a program, a value for a library's user
totals.py   control totals: input = succeeded + failed + unsettled + edited + not started
"""
