"""A long night with every fault there is: each status is true, no row is started twice, and the memory stays flat.

Run: `python tests/benchmarks/soak_faults.py [ROWS]` (100,000: a few minutes), or `… --minutes 10`: nights of 1,500
rows on a disk of their own, in which the program is killed, the service is killed or gives no answer, and the disk is
filled, again and again (as root, on Linux).
It ends with 0, or with an AssertionError that shows the first row that isn't as it should be. The gate runs 2,000 rows
of it (`tests/runner/test_soak.py`).
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from disks import mounted
from faulty_night import CONCURRENCY, Tally, faulty_night, killed_nights


def main(rows: int) -> None:
    """Run the night and say what it took."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        memory = faulty_night(Path(folder), rows)
    print(f"{rows} rows: all true, none started twice; {memory / 1024:.0f} MiB, {time.monotonic() - began:.0f} s")


def soak(minutes: float) -> None:
    """Nights with kills and outages, one after the other."""
    until, nights, total = time.monotonic() + 60 * minutes, 0, Tally()
    while time.monotonic() < until:
        chance = random.Random(nights)
        with tempfile.TemporaryDirectory() as folder, mounted(Path(folder) / "disk", "64m") as disk:
            night = killed_nights(disk, 1_500, chance, until)
        nights += 1
        for field in Tally.__struct_fields__:
            setattr(total, field, getattr(total, field) + getattr(night, field))
        print(
            f"{nights} nights, none started twice or lost: {total}, at most {total.most_lost(CONCURRENCY)}", flush=True
        )


if __name__ == "__main__" and sys.argv[1:2] == ["--minutes"]:
    soak(float(sys.argv[2]))
elif __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
