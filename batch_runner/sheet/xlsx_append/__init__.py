"""New columns spliced into the bytes of a workbook: nothing else in the package changes.

append.py      which parts of a workbook change when columns are appended or cells replaced, and how
ranges.py      ranges of cells, and where the new columns stand
rows.py        new cells for the rows of a sheet: by cutting at `</row>` where the XML is plain, else by expat
sheet_xml.py   a sheet's own part, streamed with new columns in it: head, rows, tail
xml_tokens.py  XML as the bytes it is written in: elements, attributes, inline strings
zip_copy.py    a zip package copied with some parts written anew: every other entry stays byte for byte
"""
