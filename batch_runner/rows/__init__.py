"""From a sheet to the rows that take part, and what each of them sends.

amounts.py      a cell's text as an amount with its currency. What may be read in two ways isn't read at all
columns.py      where our columns stand in a sheet, and which are the person's own
keys.py         what makes a row the same tomorrow, and two rows duplicates: forms of texts, and their hashes
params.py       a row and the job's template become params, the row's key and its dedup key
selection.py    which rows take part: by number, by a condition, the first so many
source.py       the job's sheet, opened: which of its rows take part, and what each of them sends
task_inputs.py  what a task takes, and how a cell's text is read as a value of that kind
"""
