"""Workbooks (.xlsx, .xlsm): the package, and one streaming pass over the sheet.

workbook.py    the sheet: opening, rows, notes
package.py     the zip package: its parts, how they lead to each other
catalog.py     which sheets there are, and a sheet's tables
overview.py    one look at a whole sheet: how many rows, what refuses it
scan.py        a sheet's rows by regex, where its XML is plain
rowparser.py   the same by a parser, where it isn't
rawrow.py      a row before its cells are text
cells.py       its cells → texts and problems
strings.py     the shared strings
styles.py      the number formats of the cells
richvalues.py  what stands behind `#VALUE!`: pictures, cards, new errors
merged.py      merged cells
markup.py      XML by expat, its names told by namespace
"""
