"""Latency of several variants of one model, measured in turn on one core."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from statistics import median
from typing import Any

import numpy as np

from acclimate.export.predictor import INPUT_NAMES, Inputs

Call = Callable[[Inputs], object]

_WARMUP_ROUNDS = 3


@contextmanager
def one_core() -> Iterator[int]:
    """Keep this thread, and torch, on one core: on a busy machine two threads were ten times slower than one."""
    import torch

    allowed = os.sched_getaffinity(0)
    threads = torch.get_num_threads()
    core = max(allowed)  # the first cores take most interrupts
    os.sched_setaffinity(0, {core})
    torch.set_num_threads(1)
    try:
        yield core
    finally:
        os.sched_setaffinity(0, allowed)
        torch.set_num_threads(threads)


def full_length_inputs(batch: int, tokens: int) -> Inputs:
    """Inputs of the greatest length without padding, each (batch, tokens)."""
    inputs = {name: np.ones((batch, tokens), dtype=np.int64) for name in INPUT_NAMES}
    inputs["input_ids"] *= np.arange(1, tokens + 1)  # distinct, and in every vocabulary
    inputs["token_type_ids"][:] = 0
    return inputs


def median_latency_ms(calls: Mapping[str, Call], inputs: Inputs, *, rounds: int) -> dict[str, float]:
    """Median time of a call in milliseconds, the variants taken in turn so that a busy moment hits all of them."""
    times_ms: dict[str, list[float]] = {name: [] for name in calls}
    for done in range(_WARMUP_ROUNDS + rounds):
        for name, call in calls.items():
            started = time.perf_counter()
            call(inputs)
            if done >= _WARMUP_ROUNDS:
                times_ms[name].append(1000 * (time.perf_counter() - started))
    return {name: round(median(times), 3) for name, times in times_ms.items()}


def measurement_conditions(core: int, *, rounds: int, tokens: int) -> dict[str, Any]:
    """What a latency was measured under."""
    return {"threads": 1, "core": core, "rounds": rounds, "tokens": tokens, "load_1min": round(os.getloadavg()[0], 2)}
