"""What to do: flags, environment and a job file made one validated, frozen Job.

job.py       the Job: its fields are the options, with their help texts
problems.py  what is wrong with a job by itself
options.py   the table of options, made from those fields
settings.py  flag > environment > job file > default
"""
