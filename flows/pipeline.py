"""The pipeline as a Prefect flow: `python -m flows.pipeline`, or a deployment started from Prefect's UI.

Each stage instance of dvc.yaml is a task of its own. DVC decides what has to run; Prefect only when, where and how often.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.futures import wait
from prefect.runtime import flow_run
from prefect.states import Completed
from prefect.task_runners import ThreadPoolTaskRunner
from prefect.tasks import Task

from acclimate import lifeline, locks
from acclimate.adapters.tracking import SESSION_VARIABLE, STATE_VARIABLE, TRIAL_VARIABLE, configured_uri, public_uri, resolve_uri
from acclimate.config import load_config
from acclimate.errors import AcclimateError, ConfigError
from acclimate.runtime import STATE_DIRECTORY
from flows import worktree
from flows.graph import StageNode, changed_stages, read_graph, select
from flows.overrides import Overrides, TerminalOverrides, write_params
from flows.repro import Outcome, Running, StageError, reproduce

_STATE_NAMES: dict[Outcome, str] = {"ran": "Completed", "restored": "Restored", "unchanged": "Unchanged"}
_RETRY_DELAYS_S = [5.0, 30.0]
_REPORT = Path("artifacts/report")


class PipelineError(Exception):
    """Stages failed; the message names them."""


@dataclass(frozen=True)
class Workspace:
    """The checkout that a flow run works in, and what its stages find in their environment."""

    root: Path
    environment: dict[str, str]
    lock: int
    """A descriptor that DVC inherits: the checkout stays locked until DVC has ended, also where the flow is killed."""


@dataclass
class Progress:
    """What came of each stage, and how long it took. Shared by the tasks of one flow run."""

    outcomes: dict[str, Outcome] = field(default_factory=dict)
    wall_s: dict[str, float] = field(default_factory=dict)
    running: Running = field(default_factory=Running)
    stopped: bool = False

    def stop(self) -> None:
        """Start no further stage, and let those that run save their state and leave."""
        self.stopped = True
        self.running.stop()


@flow(name="acclimate", task_runner=ThreadPoolTaskRunner(max_workers=1))  # type: ignore[arg-type]
def pipeline(overrides: Overrides = Overrides(), targets: list[str] | None = None, force: bool = False) -> State[Any]:  # noqa: B008
    """Run the stages of dvc.yaml that are not up to date.

    Args:
        overrides: Other values of params.yaml, for this run only. With any, the run has a checkout of its own.
        targets: Stages to bring up to date, with all that they wait for; empty means every stage.
        force: Run the stages even where nothing changed.
    """
    logger = get_run_logger()
    if "PREFECT__FLOW_RUN_ID" in os.environ:  # a worker started this process for one run
        lifeline.end_with([os.getppid()])
    with _workspace(overrides.by_path()) as workspace:
        nodes = select(read_graph(workspace.root), targets) if targets else read_graph(workspace.root)
        changed = changed_stages(workspace.root)
        progress = Progress()
        failed = _run_stages(nodes, changed, workspace, progress, force=force)
        if failed:
            raise PipelineError(f"{len(failed)} of {len(nodes)} stages did not succeed: {', '.join(failed)}")
        _publish_summary(nodes, progress, workspace, overrides.by_path())
    done = [name for name, outcome in progress.outcomes.items() if outcome != "unchanged"]
    message = (
        f"{len(done)} of {len(nodes)} stages ran or were restored" if done else f"nothing to do: all {len(nodes)} stages are up to date"
    )
    logger.info("%s", message)
    return Completed(message=message)


def _run_stages(nodes: Sequence[StageNode], changed: set[str], workspace: Workspace, progress: Progress, *, force: bool) -> list[str]:
    """Submit each stage behind those it waits for. Returns the stages that did not succeed."""
    run_stage = _stage_task(workspace, progress, force=force)
    futures: dict[str, Any] = {}
    try:
        for node in nodes:
            upstream = [name for name in node.upstream if name in futures]
            futures[node.name] = run_stage.submit(
                node.name, node.name in changed, upstream, wait_for=[futures[name] for name in upstream], return_state=False
            )
        wait(list(futures.values()))
    except BaseException:  # Ctrl-C, or the worker's cancellation
        progress.stop()
        raise
    return [name for name, future in futures.items() if not future.state.is_completed()]


def _stage_task(workspace: Workspace, progress: Progress, *, force: bool) -> Task[[str, bool, list[str]], State[Any]]:
    """The task that brings one stage up to date. `NO_CACHE`: DVC knows what may be skipped, and a retry costs nothing then."""

    @task(
        name="stage",
        task_run_name="{stage}",
        cache_policy=NO_CACHE,
        persist_result=False,
        retries=len(_RETRY_DELAYS_S),
        retry_delay_seconds=_RETRY_DELAYS_S,
        retry_condition_fn=_may_pass,
    )
    def run_stage(stage: str, changed: bool, upstream: list[str]) -> State[Any]:
        logger = get_run_logger()
        if progress.stopped:
            raise StageError(stage, "not started: the run was stopped", may_pass=False)
        if not (changed or force or any(progress.outcomes[name] != "unchanged" for name in upstream)):
            progress.outcomes[stage] = "unchanged"
            logger.info("%s did not change", stage)
            return Completed(name=_STATE_NAMES["unchanged"], message="did not change", data="unchanged")
        started = time.monotonic()
        outcome = reproduce(
            stage,
            root=workspace.root,
            environment=workspace.environment,
            lock=workspace.lock,
            force=force,
            log=logger.info,
            running=progress.running,
        )
        progress.outcomes[stage], progress.wall_s[stage] = outcome, time.monotonic() - started
        return Completed(name=_STATE_NAMES[outcome], message=f"{outcome} in {progress.wall_s[stage]:.1f} s", data=outcome)

    return run_stage


def _may_pass(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    """Retry what may pass next time: a lock that is held, a killed process, a stage that asks to be continued."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, StageError) and error.may_pass


@contextmanager
def _workspace(values: dict[str, Any]) -> Iterator[Workspace]:
    """The checkout itself; with other values a work tree, which is kept when the run fails."""
    root = Path.cwd()
    if not (root / "dvc.yaml").exists():
        raise ConfigError(f"{root}: no dvc.yaml; start the flow in the project's root")
    environment = {SESSION_VARIABLE: f"flow-{flow_run.id}"}
    if not values:
        with locks.held(locks.RUN_LOCK, str(root)) as descriptor:
            yield Workspace(root, environment, descriptor)
        return
    logger = get_run_logger()
    run = UUID(str(flow_run.id))
    path = worktree.place(root, worktree.FOLDER, run)
    with locks.held(locks.lock_of(path), str(path)) as descriptor:
        worktree.add(root, run)
        try:
            write_params(path / "params.yaml", values)
        except ConfigError:
            worktree.remove(root, run)
            raise
        changes = ", ".join(f"{name} = {value}" for name, value in values.items())
        logger.info("%s: params.yaml with %s, in %s", flow_run.name, changes, path)
        yield Workspace(
            path,
            {
                **environment,
                # The same store, spools and checkpoints as the main checkout's, which outlives this one.
                "MLFLOW_TRACKING_URI": resolve_uri(configured_uri(load_config(root / "params.yaml", components=False).tracking)),
                STATE_VARIABLE: str(root / STATE_DIRECTORY),
                TRIAL_VARIABLE: str(run),
                "PYTHONPATH": f"{path / 'src'}:{path}",
            },
            descriptor,
        )
        worktree.remove(root, run)


def _publish_summary(nodes: Sequence[StageNode], progress: Progress, workspace: Workspace, values: dict[str, Any]) -> None:
    """Show what ran, the report's summary and where the report is, as an artifact of the flow run."""
    report = workspace.root / _REPORT
    if values and report.is_dir():
        kept = worktree.place(Path.cwd(), "runs", UUID(str(flow_run.id)))
        shutil.copytree(report, kept, dirs_exist_ok=True)
        report = kept
    lines = ["| stage | outcome | seconds |", "|---|---|---|"]
    lines += [f"| {node.name} | {progress.outcomes[node.name]} | {progress.wall_s.get(node.name, 0):.1f} |" for node in nodes]
    if values:
        lines += ["", "Overrides:", "", *as_code("\n".join(f"{name} = {value!r}" for name, value in values.items()))]
    if (report / "summary.txt").exists():
        lines += ["", *as_code((report / "summary.txt").read_text(encoding="utf-8")), "", f"Report: `{report / 'report.html'}`"]
    docs = workspace.root / "reports" / "data_docs" / "index.html"
    if docs.exists():
        lines += ["", f"Data Docs: `{docs}`"]
    uri = public_uri(configured_uri(load_config(components=False).tracking))
    if uri.startswith("http"):
        lines += ["", f"Runs and models: [{uri}]({uri})"]
    create_markdown_artifact("\n".join(lines), key="pipeline-summary", description="What ran, and what came of it")


def as_code(text: str) -> list[str]:
    """Text that Markdown shows as it is. No text can end an indented block, as three backticks end a fenced one."""
    return [f"    {line}" for line in text.splitlines()]


def main(argv: list[str]) -> int:
    """The command line; its options are those of the deployment's form."""
    parser = argparse.ArgumentParser(prog="python -m flows.pipeline", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("targets", nargs="*", help="stages to bring up to date, with all that they wait for; default: all")
    parser.add_argument("--set", action="append", default=[], metavar="PATH=VALUE", help="another value of params.yaml, for this run only")
    parser.add_argument("--force", action="store_true", help="run the stages even where nothing changed")
    arguments = parser.parse_args(argv)
    try:
        pipeline(TerminalOverrides(params=parse_values(arguments.set)), arguments.targets or None, arguments.force)
    except (AcclimateError, PipelineError) as error:
        print(f"flow: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("flow: stopped; the next run goes on from here", file=sys.stderr)
        return 130
    return 0


def parse_values(settings: Sequence[str]) -> dict[str, Any]:
    """`finetune.epochs=2` as YAML would read the value.

    Raises:
        ConfigError: no `=` in a setting.
    """
    from ruamel.yaml import YAML

    values = {}
    for setting in settings:
        path, separator, text = setting.partition("=")
        if not separator:
            raise ConfigError(f"--set {setting}: expected PATH=VALUE, such as finetune.epochs=2")
        values[path] = YAML(typ="safe", pure=True).load(text)
    return values


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
