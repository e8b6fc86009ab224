"""What a Dask worker of our own cluster loads first: Ctrl-C at the terminal is not for it.

The signal reaches every process of the terminal's foreground. What becomes of runs then is decided by the program,
which ends its cluster when they have had their time.
"""

from __future__ import annotations

import signal

signal.signal(signal.SIGINT, signal.SIG_IGN)
