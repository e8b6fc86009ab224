"""New columns spliced into the bytes of a workbook: nothing else in the package changes.

append.py      which parts of a workbook change when columns are appended or cells replaced, and how
rows.py        new cells for the rows of a sheet: by cutting at `</row>` where the XML is plain, else by expat
sheet_xml.py   a sheet's own part, streamed with new columns in it, and its package copied around it
xml_tokens.py  XML as the bytes it is written in, and ranges of cells as it names them: where the new columns stand
"""
