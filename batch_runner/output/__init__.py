"""Sheet and outcomes become the output file.

output.py  sheet and outcomes become the output file: written, checked, swapped in
verify.py  the check before the swap: every input row once, in order, each with its own run
"""
