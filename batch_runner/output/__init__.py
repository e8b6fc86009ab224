"""Sheet + outcomes → the file, checked and swapped in.

output.py     the sheet's rows with our columns right of them
earlier.py    what an earlier output said of rows that take no part this time
longtext.py   texts too long for a cell
alignment.py  the check before the swap: each row with its own run
target.py     the file itself: whole or not at all
"""
