"""A long night with every fault there is: each status is true, no row is started twice, and the memory stays flat.

Run: `python tests/benchmarks/soak_faults.py [ROWS]` (100,000: a few minutes). It ends with 0, or with an AssertionError
that shows the first row that isn't as it should be. The gate runs 2,000 rows of it (`tests/runner/test_soak.py`).
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from faulty_night import faulty_night


def main(rows: int) -> None:
    """Run the night and say what it took."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        memory = faulty_night(Path(folder), rows)
    print(f"{rows} rows: all true, none started twice; {memory / 1024:.0f} MiB, {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
