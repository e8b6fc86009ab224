"""One row of a spreadsheet is one run of a task."""

__version__ = "0.1.0"
