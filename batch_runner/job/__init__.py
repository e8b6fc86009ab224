"""What to do: flags, environment and a job file made one validated, frozen Job.

job.py       the Job: its fields are the options, with their help texts
secrets.py   what of a job may hold a secret, and how it is shown
problems.py  what is wrong with a job by itself
options.py   the table of options, made from those fields
folders.py   folders of the day, made where they are needed
inputs.py    the files that an input names tonight
origins.py   where the value of each option came from
places.py    `{date}` and `{stem}` in file names
plan.py      what a job comes to tonight: one batch for each input
settings.py  flag > environment > job file > default
"""
