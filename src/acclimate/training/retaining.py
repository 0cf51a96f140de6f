"""What retention offers to keep after training, and the choice among it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

import torch
from torch import Tensor

from acclimate.choices import Chosen
from acclimate.protocols import Retention, State


def candidates(retention: Iterable[Chosen[Retention]], start: State, end: State) -> Iterator[tuple[str, State]]:
    """What retention may keep, each with its name: that after training alone, where none offers others.

    Tensors that are no floating-point numbers are those after training.
    """
    floating = {name: tensor for name, tensor in end.items() if tensor.is_floating_point()}
    found = False
    for chosen in retention:
        for share, state in chosen.component.candidates(start, floating):
            found = True
            yield f"{share:g}", {**end, **state}
    if not found:
        yield "1", end


def keep_best(
    tensors: Mapping[str, Tensor],
    start: State,
    retention: Iterable[Chosen[Retention]],
    score: Callable[[], float],
    *,
    higher_is_better: bool,
) -> dict[str, float]:
    """Leave the best of what retention offers in a model; of equals the first.

    Args:
        tensors: the model's own, after training.
        start: copies of them from before training.
        score: of the model as it is.
    Returns:
        The score of each candidate by its name, the kept one first; empty where nothing was offered.
    """
    end = {name: tensor.detach().clone() for name, tensor in tensors.items()}
    scores: dict[str, float] = {}
    best, kept = "", end
    for name, state in candidates(retention, start, end):
        _copy(state, tensors)
        scores[name] = score()
        if not best or (scores[name] > scores[best] if higher_is_better else scores[name] < scores[best]):
            best, kept = name, state
    _copy(kept, tensors)
    return {name: scores[name] for name in (best, *scores)} if len(scores) > 1 else {}


@torch.no_grad()
def _copy(state: State, tensors: Mapping[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        tensor.copy_(state[name])
