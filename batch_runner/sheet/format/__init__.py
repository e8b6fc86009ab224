"""Number formats: what a person sees of a number or a date.

numfmt.py      a number and its format → the text that is sent, or shown
formatcode.py  a format's code taken apart
digits.py      numbers as digits
dates.py       numbers as dates and times
"""

from __future__ import annotations
