"""New columns in a workbook, spliced into the bytes of its sheet: nothing else in the package changes.

`append` decides which parts change; `sheetpart` streams the sheet's (`head`, `quickrows` or `parsedrows`, `tail`),
`tablepart` and `filtername` mend the small ones, `zipcopy` copies all others.
"""

from batch_runner.sheet.splice.append import append_columns, place_of

__all__ = ["append_columns", "place_of"]
