"""The only place that knows DVC's Python interface, which is internal and may change: names, order, what changed."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

from acclimate.errors import ConfigError


@dataclass(frozen=True)
class StageNode:
    """A stage instance, such as `finetune@section-base-full-0`, and those it waits for."""

    name: str
    upstream: tuple[str, ...]
    command: str


def read_graph(root: Path) -> list[StageNode]:
    """Every stage instance of dvc.yaml, each after those it waits for.

    Raises:
        ConfigError: dvc.yaml or params.yaml cannot be read.
    """
    with _repository(root) as repository:
        graph = repository.index.graph  # an edge points from a stage to one that it waits for
        nodes = {
            name: StageNode(name, tuple(sorted(_name(before.addressing) for before in graph.successors(stage))), str(stage.cmd))
            for stage in graph
            for name in [_name(stage.addressing)]
        }
    return [nodes[name] for name in TopologicalSorter({name: nodes[name].upstream for name in sorted(nodes)}).static_order()]


def changed_stages(root: Path) -> set[str]:
    """The stages whose command, params, deps or outs differ from dvc.lock. What follows them may turn out to differ later."""
    with _repository(root) as repository:
        return {_name(address) for address in repository.status()}


def _name(address: str) -> str:
    """A stage's name; DVC puts the file before it when the process stands in another directory."""
    return address.rsplit(":", 1)[-1]


def select(nodes: Sequence[StageNode], targets: Collection[str]) -> list[StageNode]:
    """The targets and all that they wait for, in order. A target is an instance, or a stage for all its instances.

    Raises:
        ConfigError: a target is not a stage.
    """
    by_name = {node.name: node for node in nodes}
    names = {name for name in by_name for target in targets if target in (name, name.split("@")[0])}
    for target in targets:
        if not any(target in (name, name.split("@")[0]) for name in by_name):
            nearest = difflib.get_close_matches(target, by_name, n=1)
            hint = f"did you mean {nearest[0]!r}? " if nearest else ""
            raise ConfigError(f"dvc.yaml: no stage called {target!r}; {hint}there are: {', '.join(by_name)}")
    for node in reversed(nodes):
        if node.name in names:
            names.update(node.upstream)
    return [node for node in nodes if node.name in names]


@contextmanager
def _repository(root: Path) -> Iterator[Any]:
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    logging.getLogger("dvc").propagate = False  # else Prefect prints each of its lines a second time
    try:
        with Repo(str(root)) as repository:
            yield repository
    except DvcException as error:
        raise ConfigError(f"{root / 'dvc.yaml'}: {' '.join(str(error).split())}") from error
