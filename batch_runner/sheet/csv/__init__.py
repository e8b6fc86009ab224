"""CSV and TSV files: reading them, and writing them back with new columns.

reader.py    the sheet: opening, one look at every record, header row, rows, notes
records.py   how a file is divided into fields (its delimiter), and its records as they stand
encoding.py  which encoding the file is in, and where its text ends
writer.py    the same records with new fields, quoted, and harmless to a spreadsheet
"""

from __future__ import annotations
