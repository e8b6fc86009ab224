"""The local page: a view over journals and plans. Batches run in processes of their own and outlive it.

app.py      its screens by address, and the files of its folder
sheets.py   a sheet before it runs: what was understood, what is chosen, the plan, the command
batches.py  a batch while it runs and afterwards: started, watched, stopped; all nights
rows.py     its rows beside the sheet's own columns: their stories, mended cells, settled ones
"""
