"""Spreadsheets: reading, cell text, writing. Knows nothing of tasks.

model.py      what a sheet is: columns, rows, cells, what is wrong with a cell, and the new columns
header.py     which row is the header: a pure look at a sheet's first rows, the same for workbooks and text files
snapshot.py   the input as it was when the batch began: a private copy that vanishes with the process
export.py     opens a spreadsheet, and writes it with new columns in its own format or another
csv/          CSV and TSV files: reading them, and writing them back with new columns
numfmt/       number formats: what a person sees of a number or a date
xlsx/         reading workbooks: the package, and one streaming pass over the sheet
xlsx_append/  new columns spliced into the bytes of a workbook: nothing else in the package changes
"""
