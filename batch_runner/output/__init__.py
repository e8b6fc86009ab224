"""Sheet and outcomes become the output file.

output.py           sheet and outcomes become the output file: written, checked, swapped in
long_texts.py       texts too long for their cells: cut there, and whole in a file beside the output
edits.py            what a person changed in the output since it was written: carried over, named, or kept aside
previous_output.py  the output of an earlier night: its runs, what a person changed in it, her own columns
"""
