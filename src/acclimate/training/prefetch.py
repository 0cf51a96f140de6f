"""Batches made while the device computes."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import torch

from acclimate.protocols import map_tensors
from acclimate.training.streams import Windows, Work

_AHEAD = 2


def windows(source: Windows, steps: Sequence[int], device: torch.device) -> Iterator[tuple[int, list[Work]]]:
    """Each step with its batches, on the host.

    For a GPU a thread makes them two steps ahead in pinned memory, from which copies need no waiting. On a CPU there is no idle
    core to make them on, and a batch of 32 x 128 takes 60 us of a step of 200 ms and more.
    """
    if device.type != "cuda":
        yield from ((step, source.window(step)) for step in steps)
        return
    ready: queue.Queue[Any] = queue.Queue(maxsize=_AHEAD)
    stopped = threading.Event()
    thread = threading.Thread(target=_fill, args=(source, steps, ready, stopped), name="prefetch", daemon=True)
    thread.start()
    try:
        for _ in steps:
            item = ready.get()
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stopped.set()
        with suppress(queue.Empty):
            while True:
                ready.get_nowait()
        thread.join(timeout=10.0)


def _fill(source: Windows, steps: Sequence[int], ready: queue.Queue[Any], stopped: threading.Event) -> None:
    try:
        for step in steps:
            item = (step, [replace(work, batch=map_tensors(work.batch, torch.Tensor.pin_memory)) for work in source.window(step)])
            while not stopped.is_set():
                with suppress(queue.Full):
                    ready.put(item, timeout=0.5)
                    break
            if stopped.is_set():
                return
    except BaseException as error:  # noqa: BLE001  it is raised again where the batches are taken
        ready.put(error)
