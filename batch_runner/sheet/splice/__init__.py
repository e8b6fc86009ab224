"""New columns in a workbook, spliced into the bytes of its sheet: nothing else in the package changes.

append.py      which parts change, and how
place.py       where the new columns stand
growth.py      what grows with the sheet: its table, its autofilter
sheetpart.py   the sheet's part, streamed: head, rows, tail
head.py        what stands before the rows: dimension, widths
quickrows.py   rows as most programs write them, without a parser
parsedrows.py  rows of any shape
newrow.py      what one row gets: cells, and a tag with room for them
inline.py      a text as a cell
tail.py        what follows the rows: the autofilter
tablepart.py   the part of a table
filtername.py  the hidden name of an autofilter
tags.py        XML as bytes: where elements stand, tags with an attribute changed
ranges.py      ranges of cells (`A1:D20`)
utf8.py        a part as UTF-8, whatever it was written in
likeness.py    what was written, compared with what it was made of
zipcopy.py     the package, all other parts byte for byte
"""

from batch_runner.sheet.splice.append import append_columns, place_of
from batch_runner.sheet.splice.likeness import first_new_cells

__all__ = ["append_columns", "first_new_cells", "place_of"]
