"""The built-in task `invoice`: reads a PDF in the files folder.

Params `File Name` and `Operation` (exactly these names): `extract_text`, which also holds where there is no Operation,
gives `{"text", "pages"}`; `extract_fields` gives the Fields of fields.py. Whatever is wrong with the file ends the run
as a failure with one sentence. It only reads, so a run that was cut off may be run again.

text.py     the text of a PDF
fields.py   the fields, found in it by their labels
labels.py   what stands before a field, by language
amounts.py  amounts of money
dates.py    dates
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec

from batch_runner.service.local.context import file_within
from batch_runner.service.local.signature import param, task

if TYPE_CHECKING:
    from batch_runner.service.local.context import Context


@task(repeatable=True)
def invoice(
    file_name: Annotated[str, param("File Name")],
    operation: Annotated[Literal["extract_text", "extract_fields"], param("Operation")] = "extract_text",
    *,
    context: Context,
) -> dict[str, Any]:
    """Read the invoice that the params name; `text` is that of all pages, one after another."""
    from batch_runner.service.local.invoice.fields import fields_of
    from batch_runner.service.local.invoice.text import text_of

    path = file_within(Path(context.files), file_name)
    if operation == "extract_fields":
        return msgspec.structs.asdict(fields_of(text_of(path, as_laid_out=True).text))
    return text_of(path)._asdict()
