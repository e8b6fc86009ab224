"""Number formats: what a person sees of a number or a date.

parser.py     a format's code taken apart
meaning.py    amount, mask or identifier: what stands around a number and among its digits
formatter.py  a number and its format → the text that is sent, or shown
digits.py     numbers as digits
dates.py      numbers as dates and times
"""
