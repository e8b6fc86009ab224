"""The report: one page for people about one batch, written when its output stands.

report.py    the page, written whole or not at all
verdict.py   whether all is well, in one sentence, and what to do
course.py    one pass over the rows: when runs began and ended, the slowest ones, who failed
timeline.py  starts and ends by spans of time
runtimes.py  median, 95th percentile, the slowest
places.py    where a row stands in the output, and the link to it
page.py      all of that in the words and shapes of the page
page.html    the page itself
page.css     how it looks: on a phone, in the dark, on paper
"""
