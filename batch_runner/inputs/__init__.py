"""What a task takes: the schema that a sheet's columns and each row's texts are held against before anything is sent.

kinds.py   kinds of values: how the text of a cell is read as a number, a date, a choice
inputs.py  a task's inputs, and which of the names that a sheet sends is which
"""
