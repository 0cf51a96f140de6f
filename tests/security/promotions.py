"""Promotions at once, each in a process of its own. MLflow is imported once, before the forks."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
from pathlib import Path

import mlflow  # noqa: F401
from mlflow import MlflowClient

from acclimate.adapters import registry, tracking
from acclimate.adapters.gates import read_candidate
from acclimate.adapters.options import GatesConfig

GATES = GatesConfig(min_metric=0.0, min_over_champion=0.0)
FORK = multiprocessing.get_context("fork")


def at_once(*actions) -> list[int]:
    """Run each in a process of its own; the exit codes."""
    start = FORK.Barrier(len(actions))

    def act(action) -> None:
        start.wait()
        with contextlib.suppress(registry.GateError):
            action()

    processes = [FORK.Process(target=act, args=(action,)) for action in actions]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    return [process.exitcode for process in processes]


def promotion(store: str, name: str, version: str):
    return lambda: registry.promote(name, GATES, uri=store, version=int(version))


def registration(store: str, model: str, directory: str, wait=None, say=None):
    def register() -> None:
        if wait is not None:
            verify = registry._verify
            registry._verify = lambda *arguments: (wait.wait(60), verify(*arguments))
        os.chdir(directory)
        client = tracking.connect(store)
        places = {"export": Path("export"), "evaluate": Path("evaluate"), "model_name": model, "uri": store}
        candidate = read_candidate("toy", Path("export"), Path("evaluate"))
        registry.register(candidate, GATES, **places, run_id=client.create_run("1").info.run_id)
        if say is not None:
            say.set()

    return register


def die_before_the_alias_moves(store: str, name: str, version: str):
    def promote() -> None:
        MlflowClient.set_registered_model_alias = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        promotion(store, name, version)()

    return promote


def without_a_common_lock(store: str, name: str, versions: list[str]) -> None:
    """As from machines of their own, and all lines are written before the first alias moves."""
    tracking.store_lock = lambda _uri: contextlib.nullcontext()
    written, write = FORK.Barrier(len(versions)), registry._write_ledger

    def write_and_wait(client, name, before, after, reason):
        move = write(client, name, before, after, reason)
        if reason.startswith("every gate"):
            written.wait(60)
        return move

    registry._write_ledger = write_and_wait
    print(at_once(*(promotion(store, name, version) for version in versions)))


def main(store: str, first: str, better: str, worse: str) -> None:
    better_is_done = FORK.Event()
    print(at_once(registration(store, "register", first)))
    print(
        at_once(
            registration(store, "register", better, say=better_is_done),
            registration(store, "register", worse, wait=better_is_done),  # it judged before, and moves the alias after the better one
        )
    )
    print(at_once(*(promotion(store, "race", str(version)) for version in (1, 2, 3, 4))))
    print(at_once(die_before_the_alias_moves(store, "kill", "2")))
    without_a_common_lock(store, "machines", ["2", "3", "4"])


if __name__ == "__main__":
    main(*sys.argv[1:])
