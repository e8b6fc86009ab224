"""What to do: flags, environment and a job file made one validated, frozen Job.

job.py       the Job: its fields are the options, with their help texts
secrets.py   what of a job may hold a secret, and how it is shown
problems.py  what is wrong with a job by itself
options.py   the table of options, made from those fields
settings.py  flag > environment > job file > default
"""
