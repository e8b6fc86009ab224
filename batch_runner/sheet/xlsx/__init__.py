"""Reading workbooks: the package, and one streaming pass over the sheet.

cells.py           a row's cells → their texts, and what is wrong with them
metadata.py        what stands beside a sheet's rows: sheets, tables, cell formats, rich values, merged cells
package.py         the zip package of a workbook, its parts, and their XML read with expat
row_reader.py      one streaming pass over a sheet's XML: a regex where it is plain, else expat
survey.py          a first look at all rows: the header, where the list ends
values.py          raw rows, shared strings as they stand in the file, and texts kept at hand
workbook.py        a sheet of an .xlsx or .xlsm workbook, surveyed as a whole before its first row is read
"""
