"""How much is fuzzed, from which seed, and what a try may take."""

from __future__ import annotations

import os
import random
import resource
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

INPUTS = int(os.environ.get("ACCLIMATE_FUZZ_INPUTS", "2000"))
SHARE_OF_PARAMS = 0.6
"""The predictor is asked 2 - 0.6 times as many inputs; one takes a fifth of the time of a params.yaml."""
SEED = int(os.environ.get("ACCLIMATE_FUZZ_SEED") or random.SystemRandom().randrange(1 << 32))
"""Given again as ACCLIMATE_FUZZ_SEED, it makes the same inputs."""


class TookTooLong(BaseException):
    """Not an Exception, so that no handler of the code under test catches it."""


def inputs(count: int = INPUTS) -> Iterator[random.Random]:
    """A generator of random numbers for each input; input i of a seed is the same whatever `count` is."""
    print(f"ACCLIMATE_FUZZ_SEED={SEED}, {count} inputs")
    for number in range(count):
        yield random.Random(f"{SEED}/{number}")


@contextmanager
def bounded(seconds: float) -> Iterator[None]:
    """Stop what takes longer, by processor time of this process."""

    def stop(_signal: int, _frame: FrameType | None) -> None:
        raise TookTooLong(f"more than {seconds} s")

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    start = time.process_time()
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
    if time.process_time() - start > 4 * seconds:  # native code is not stopped by a signal
        raise TookTooLong(f"more than {seconds} s")


def peak_mb() -> float:
    """The most memory that this process has had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
