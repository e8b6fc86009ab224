"""CSV and TSV files: reading them, and writing them back with new columns.

delimited.py   the sheet: opening, rows, notes
encoding.py    which encoding the file is in
dialect.py     its delimiter, and a first line `sep=`
textfile.py    both of these applied to its bytes
records.py     its records as they stand, line ends included
textheader.py  its header row
survey.py      one look at every record: how many rows, what refuses the sheet
appending.py   the same records with new fields
quoting.py     a new text as a field: quoted, and harmless to a spreadsheet
"""

from __future__ import annotations
