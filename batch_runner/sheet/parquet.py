"""A Parquet file of text columns."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

import polars
from polars.io.plugins import register_io_source

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    from batch_runner.sheet.grid import Grid

AT_ONCE = 10_000
ROW_GROUP = 50_000
"""Rows that are compressed together: what a reader takes in at once."""


def write_parquet(target: BinaryIO, grid: Grid) -> None:
    """Write the data rows, every column a string. They are drawn in a thread of polars' while this one waits."""
    schema = dict.fromkeys(grid.headers, polars.String)

    def frames(*_pushed_down: object) -> Iterator[polars.DataFrame]:
        rows = grid.data()
        while True:
            batch = list(islice(rows, AT_ONCE))
            yield polars.DataFrame(batch, schema=schema, orient="row")
            if not batch:
                return

    register_io_source(frames, schema=schema).sink_parquet(target, row_group_size=ROW_GROUP)
