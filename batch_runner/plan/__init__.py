"""What a batch does with each row, and why. Pure: it reads nothing, and nothing is sent.

plan.py        a row's attempts → start, resend, poll, keep, refuse or skip; and the counts of a whole sheet
duplicates.py  rows that are alike in what makes a row unique: which of them may run
edits.py       which columns of an edited row differ from those that were sent
"""
