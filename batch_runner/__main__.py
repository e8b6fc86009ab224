"""`python -m batch_runner`."""

from __future__ import annotations

from batch_runner.cli import main

main()
