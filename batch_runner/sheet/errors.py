"""What can be wrong with a spreadsheet as a whole."""


class SheetError(Exception):
    """The sheet cannot be used: one sentence that names file, sheet and cell, and the next step."""


class Unlike(Exception):  # noqa: N818  it is a state of two files: another way of comparing them takes over
    """Two files can't be compared byte by byte."""
