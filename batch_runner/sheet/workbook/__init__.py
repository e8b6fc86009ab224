"""Workbooks (.xlsx, .xlsm): the package, and one streaming pass over the sheet."""
