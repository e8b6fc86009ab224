"""`python -m batch_runner`."""

from batch_runner.cli import main

main()
