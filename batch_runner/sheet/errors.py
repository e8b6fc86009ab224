"""What can be wrong with a spreadsheet as a whole."""


class SheetError(Exception):
    """The sheet cannot be used: one sentence that names file, sheet and cell, and the next step."""
