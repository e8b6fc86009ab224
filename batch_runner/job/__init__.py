"""What to do: flags, environment and a job file make one validated, frozen Job.

config.py          flags, environment and a job file made one Job: flag > environment > job file > default
inputs.py          the files that an input names tonight, and the batch that each of them becomes
job.py             one validated, frozen Job says what to do, whoever said it
options.py         the options of a job: one table for flags, environment and job files; and where each value came from
path_templates.py  placeholders in file names: `{date}`, `{date:%d.%m.%Y}` and `{stem}`; `{{` and `}}` are braces
validation.py      what is wrong with a job by itself, and what of it may hold a secret
"""
