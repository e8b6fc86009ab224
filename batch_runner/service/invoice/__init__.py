"""The built-in task `invoice`: reads a PDF in the files folder.

Params `File Name` and `Operation` (exactly these names): `extract_text`, which also holds where there is no Operation,
gives `{"text", "pages"}`; `extract_fields` gives the Fields of fields.py. Whatever is wrong with the file or the params
ends the run as a failure with one sentence.

text.py     the text of a PDF
fields.py   the fields, found in it by their labels
labels.py   what stands before a field, by language
amounts.py  amounts of money
dates.py    dates
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from batch_runner.service.endings import TaskFailed
from batch_runner.service.files import file_within

if TYPE_CHECKING:
    from batch_runner.service.tasks import Context

FILE_NAME = "File Name"
OPERATION = "Operation"
OPERATIONS = ("extract_text", "extract_fields")


def invoice(params: dict[str, str], context: Context) -> dict[str, Any]:
    """Read the invoice that the params name; `text` is that of all pages, one after another."""
    from batch_runner.service.invoice.fields import fields_of
    from batch_runner.service.invoice.text import text_of

    operation = params.get(OPERATION, OPERATIONS[0])
    if operation not in OPERATIONS:
        raise TaskFailed(f"The Operation {operation!r} is unknown; {_hint(operation, OPERATIONS)}")
    path = file_within(Path(context.files), _file_name(params))
    if operation == "extract_fields":
        return msgspec.structs.asdict(fields_of(text_of(path, as_laid_out=True).text))
    return text_of(path)._asdict()


def _file_name(params: dict[str, str]) -> str:
    if FILE_NAME in params:
        return params[FILE_NAME]
    near = difflib.get_close_matches(FILE_NAME.casefold(), [name.casefold() for name in params], n=1)
    given = [name for name in params if [name.casefold()] == near]
    hint = f"there is {given[0]!r}: rename it." if given else "it names the PDF to read."
    raise TaskFailed(f"The param {FILE_NAME!r} is missing; {hint}")


def _hint(given: str, known: tuple[str, ...]) -> str:
    near = difflib.get_close_matches(given, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known are {' and '.join(known)}."
