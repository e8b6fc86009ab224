"""What a batch would do with each row. Pure: nothing is sent.

preview.py  everything short of sending: what `check` shows
"""
