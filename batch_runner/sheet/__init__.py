"""Spreadsheets: reading, cell text, writing. Knows nothing of tasks.

export.py     a sheet written in another format than its own, and opened again to be checked
header.py     which row is the header: a pure look at a sheet's first rows, the same for workbooks and text files
model.py      what a sheet is: columns, rows, cells, what is wrong with a cell, and the new columns
snapshot.py   the input as it was when the batch began: a private copy that vanishes with the process
format/       Number formats: what a person sees of a number or a date.
open/
splice/
text/         CSV and TSV files: reading them, and writing them back with new columns.
workbook/
xlsx/         Reading workbooks: the package, and one streaming pass over the sheet.
xlsx_append/  New columns spliced into the bytes of a workbook: nothing else in the package changes.
"""
