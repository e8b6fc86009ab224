"""How late ends are noticed, and with how many polls: our rule beside fixed intervals and a growing interval.

Run: `PYTHONPATH=tests python tests/benchmarks/bench_polling.py [ROUNDS]`. All in virtual time: runs are log-normal with
σ 0.5, and a batch has ROUNDS (10) times as many runs as are in flight, the first ones started 10 ms apart, so learning
and the last runs are counted. `default` is what a service elsewhere sees. The others have 20 polls a second at most:
our rule, the fixed interval that comes to the same number of polls, and one that grows from 1 s by half to 30 s.

With 500 or 5,000 in flight of a median of 5 s, and 5,000 of 60 s, more runs end than 20 polls a second can notice, so
every policy only waits for polls (Little's law): there the delays are all alike.
"""

from __future__ import annotations

import sys
import time

from poll_simulation import Intervals, Noted, Result, fixed_with, growing, log_normal, simulate

from batch_runner.batch.poll_schedule import AUTO, Schedule

MEDIANS = (5.0, 60.0, 600.0)
IN_FLIGHT = (25, 500, 5000)
FEWEST = 1000


def row(median: float, in_flight: int, rounds: int) -> str:
    durations = log_normal(median, max(FEWEST, rounds * in_flight))
    began = time.process_time()
    default = simulate(Schedule(AUTO), durations, in_flight)
    cost = (time.process_time() - began) / (default.polls * len(durations))
    ours = simulate(Noted(), durations, in_flight)
    fixed = fixed_with(ours.polls, durations, in_flight)
    grown = simulate(Intervals(growing), durations, in_flight)
    columns = "".join(f"{told(result, median)}" for result in (default, ours, fixed, grown))
    return f"{median:6.0f} {in_flight:9d} {columns} {1 - ours.delay / fixed.delay:8.1%} {cost * 1e6:9.0f}"


def told(result: Result, median: float) -> str:
    return f"{result.delay:9.2f} {result.delay / median:7.1%} {result.polls:6.2f} |"


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    part = f"{'delay s':>9} {'/median':>7} {'polls':>6} |"
    print(f"{'':16} {'default':>24} |{'ours, 20/s':>24} |{'fixed, same polls':>24} |{'×1.5 to 30 s':>24} |")
    print(f"{'median':>6} {'in flight':>9} {part * 4} {'less':>8} {'µs a poll':>9}")
    for median in MEDIANS:
        for in_flight in IN_FLIGHT:
            print(row(median, in_flight, rounds), flush=True)


if __name__ == "__main__":
    main()
