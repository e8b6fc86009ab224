"""Control totals: what stands in a column of amounts, added up by currency and by what came of the rows.

totals.py    the sheet's rows beside their outcomes: input = succeeded + failed + unsettled + edited + not started
amount.py    a cell's text → an amount, only where it can't be another
currency.py  codes, signs, and the column that names them
"""

from batch_runner.totals.totals import ColumnTotals, Sum, Unread, control_totals

__all__ = ["ColumnTotals", "Sum", "Unread", "control_totals"]
