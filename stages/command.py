"""What every stage's command shares: flags from the signature of `run`, params, tracking, whole outs only."""

from __future__ import annotations

import argparse
import hashlib
import inspect
import json
import logging
import os
import re
import resource
import signal
import sys
import tempfile
import time
import typing
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from acclimate import artifacts, leftovers, lifeline, locks
from acclimate.code import LOCK, Code, Digests
from acclimate.config import Config, defined, load_config
from acclimate.dvc_records import problems
from acclimate.energy import Energy
from acclimate.errors import AcclimateError, ConfigError, DataError, DoesNotFitError, LostProcessError, disk_faults_named
from acclimate.forecasts import forecast, params_digest
from acclimate.launch import (
    CONTINUE_EXIT_CODE,
    LOST_EXIT_CODE,
    is_launched,
    losses_of_processes_named,
    process_rank,
    reports_to_launcher,
    run_processes,
    say_last,
)
from acclimate.params_file import read_yaml
from acclimate.runtime import (
    STATE_DIRECTORY,
    StoppedError,
    Terminated,
    configure_logging,
    keep_private,
    leave_on_sigterm,
    prepare_environment,
    process_age_s,
)
from acclimate.settings import Options
from acclimate.sinks import MemorySink, Sink
from acclimate.training.options import TrainConfig

if TYPE_CHECKING:
    from acclimate.training.trial import Trial

USES_COMPONENTS = "uses_components"
"""Class variable of a stage's `Params`: true where the stage asks the chosen components, and not only for their names."""
_OUT, _WRITES_LOCK = "out", "code"
Out = Annotated[Path, _OUT]
"""A `run` argument that is an out of dvc.yaml; every plain `Path` argument is a dep."""

logger = logging.getLogger(__name__)


@dataclass
class StageContext:
    """What a stage is handed besides its params and paths."""

    stage: str
    sink: Sink
    checkpoint_directory: Path
    run_id: Callable[[], str | None]
    """Waits for the tracker's run id; None when the tracking server cannot be reached."""
    identity: dict[str, str] = field(default_factory=dict)
    """Digests of what the stage is given; a checkpoint made of others is refused."""
    train: TrainConfig = field(default_factory=TrainConfig)
    """How training runs, not what it computes."""
    trial: Trial | None = None
    """Take a few steps only."""
    record: dict[str, Any] = field(default_factory=dict)
    """Facts that differ between equal runs, such as throughput; written to records/, not into the outs."""
    final_metrics: dict[str, float] = field(default_factory=dict)
    """Logged to the tracker once, at the end."""
    artifacts: list[Path] = field(default_factory=list)
    """Files to copy to the tracker: paths inside the outs, small ones."""


def main(run: Callable[..., None], params_class: type[Options], *, trains: bool = False) -> None:
    """Run one stage as a command and exit.

    Args:
        trains: the stage may run as several processes, as `train.launch` says.
    """
    prepare_environment()
    keep_private()
    configure_logging(logging.INFO if process_rank() == 0 else logging.ERROR)
    leave_on_sigterm(trains and not is_launched())
    lifeline.end_with_starters()
    try:
        with disk_faults_named():
            sys.exit(_execute_launched(run, sys.argv[1:]) if trains and _launches() else execute(run, params_class, sys.argv[1:]))
    except LostProcessError as error:
        if not reports_to_launcher():
            say_last(f"{stage_name(run)}: {error}")
        sys.exit(LOST_EXIT_CODE)
    except AcclimateError as error:
        say_last(f"{stage_name(run)}: {error}")
        sys.exit(1)
    except StoppedError as stopped:
        say_last(f"{stage_name(run)}: stopped, {stopped}; the next run goes on from there")
        sys.exit(CONTINUE_EXIT_CODE if stopped.signal_number == signal.SIGTERM else 128 + stopped.signal_number)
    except Terminated:
        say_last(f"{stage_name(run)}: stopped; nothing half-written is left, the next run goes on from what is saved")
        sys.exit(CONTINUE_EXIT_CODE)
    except KeyboardInterrupt:
        say_last(f"{stage_name(run)}: stopped; nothing half-written is left, the next run does this stage again")
        sys.exit(128 + signal.SIGINT)


def _launches() -> bool:
    """Whether params.yaml asks for several processes and this is not yet one of them."""
    launch = load_config(components=False).train.launch
    return not is_launched() and launch.processes * launch.nodes > 1


def _execute_launched(run: Callable[..., None], argv: list[str]) -> int:
    parse_arguments(run, argv)  # a mistake is told once
    module = getattr(sys.modules["__main__"].__spec__, "name", f"stages.{stage_name(run)}")
    launch = load_config(components=False).train.launch
    status, lines = run_processes(["-m", module, *argv], launch.processes, launch.nodes, launch.rendezvous)
    for line in lines:
        print(line if line.startswith(stage_name(run)) else f"{stage_name(run)}: {line}", file=sys.stderr)
    return status


def execute(run: Callable[..., None], params_class: type[Options], argv: list[str]) -> int:
    """Parse flags, run the stage, publish its outs and its record."""
    arguments = parse_arguments(run, argv)
    record_path, tried, memory_mb = (arguments.pop(name) for name in ("record", "try", "memory_mb"))
    config = load_config(components=getattr(params_class, USES_COMPONENTS, False))
    params = select_params(config, params_class, arguments)
    outs = {name: arguments[name] for name in out_names(run)}
    name = instance_name(run, arguments)
    with ExitStack() as held:
        if process_rank() == 0 and not tried:  # the other processes of this run write nothing that stays
            _own([*outs.values(), record_path], held)
        deps = {flag: path for flag, path in arguments.items() if isinstance(path, Path) and flag not in outs}
        files = {path: artifacts.files_md5(path) for path in deps.values()}
        inputs = {flag: artifacts.digest_of(files[path]) for flag, path in deps.items()}
        if tried or process_rank():
            return _run_apart(run, params, arguments, outs, config, inputs, num_steps=tried, memory_mb=memory_mb)
        _check_deps(files)
        _check_code(run, params)
        checkpoints = checkpoint_directory(run, name, params, inputs)
        held.enter_context(locks.held(leftovers.lock_of(checkpoints), str(checkpoints)))
        _execute_alone(run, params, arguments, outs, config, inputs, name=name, checkpoints=checkpoints, record_path=record_path)
    return 0


def _own(outs: Iterable[Path], held: ExitStack) -> None:
    """Lock what this process will write, always in the same order, and remove what a killed process left there.

    Raises:
        EnvironmentUnfitError: another process writes it.
        ConfigError: a directory stands there that no stage wrote.
    """
    for out in sorted(outs):
        held.enter_context(locks.held(locks.lock_of(out), str(out)))
        artifacts.remove_partials(out)
        if out.is_dir() and not (out / artifacts.MANIFEST).exists() and any(out.iterdir()):
            raise ConfigError(f"{out}: would be replaced, and no stage wrote it (it holds no {artifacts.MANIFEST}); move it away")


def _check_deps(files_by_dep: dict[Path, dict[str, str]]) -> None:
    """Compare what this stage is given with what DVC recorded; by hand a stage may be given what one has made by hand.

    Raises:
        DataError: under DVC, files that are not those recorded.
    """
    found = problems(files_by_dep)
    if found and "DVC_STAGE" in os.environ:
        raise DataError("; ".join(found))
    for line in found:
        logger.warning("%s", line)


def checkpoint_directory(run: Callable[..., None], stage: str, params: Options, inputs: dict[str, str]) -> Path:
    """Where a stage keeps what it goes on from. Outside a work tree, which goes away: a retry finds it again."""
    from acclimate.adapters.tracking import TRIAL_VARIABLE, state_directory

    return leftovers.directory_of(state_directory(), os.environ.get(TRIAL_VARIABLE)) / fingerprint(run, stage, params, inputs)


def _execute_alone(
    run: Callable[..., None],
    params: Options,
    arguments: dict[str, Any],
    outs: dict[str, Path],
    config: Config,
    inputs: dict[str, str],
    *,
    name: str,
    checkpoints: Path,
    record_path: Path,
) -> None:
    from acclimate.adapters.tracking import Tracker

    started_at, energy = time.time(), Energy()
    values = params.model_dump(mode="json", by_alias=True)
    identity = {str(arguments[flag]): md5 for flag, md5 in inputs.items()}
    with Tracker(config.tracking, stage=name, params=values, inputs=identity) as tracker:
        context = StageContext(name, tracker, checkpoints, tracker.run_id, identity, config.train)
        goes_on = context.checkpoint_directory.exists()
        with artifacts.publish(*outs.values()) as temporaries, losses_of_processes_named():
            run(params, **{**arguments, **dict(zip(outs, temporaries, strict=True))}, context=context)
            for temporary in temporaries:
                if temporary.is_dir():
                    artifacts.write_manifest(temporary, stage=name, params=values, inputs=inputs)
        tracker.log_final(context.final_metrics)
        for path in context.artifacts:
            tracker.log_artifact(_published(path, dict(zip(temporaries, outs.values(), strict=True))))
        outs_md5 = {str(path): artifacts.dvc_md5(path) for path in outs.values()}
        tracker.set_outputs(outs_md5)
        run_id = tracker.run_id()
    artifacts.remove(context.checkpoint_directory)
    leftovers.collect(context.checkpoint_directory.parent, name.replace("@", "-"))
    record = {
        "stage": name,
        "run_id": run_id,
        "tracking_uri": tracker.uri,
        "started_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started_at)),
        "wall_s": (wall_s := round(process_age_s(), 2)),
        **({"price": wall_s / 3600 * config.train.price_per_hour} if config.train.price_per_hour else {}),
        **({"joules": joules} if (joules := energy.joules()) is not None else {}),
        "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        "git_commit": tracker.git_commit,
        "outs_md5": outs_md5,
        **({"goes_on": True} if goes_on else {}),
        **context.record,
        **forecast(name, params_digest(config, values), context.record),
    }
    artifacts.write_json(record_path, record)


def _run_apart(
    run: Callable[..., None],
    params: Options,
    arguments: dict[str, Any],
    outs: dict[str, Path],
    config: Config,
    inputs: dict[str, str],
    *,
    num_steps: int | None,
    memory_mb: float | None,
) -> int:
    """Run a stage that publishes nothing: no record, no tracker, and what it writes is dropped.

    It is one of several processes that does not speak for them, or a trial of `num_steps`, which prints what was measured.
    """
    name, values, trial = instance_name(run, arguments), params.model_dump(mode="json", by_alias=True), None
    if num_steps:
        from acclimate.training.trial import Trial

        trial = Trial(num_steps, memory_mb)
        STATE_DIRECTORY.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="acclimate-", dir=STATE_DIRECTORY if trial else None) as scratch:
        temporaries = {flag: Path(scratch) / flag for flag in outs}
        for temporary in temporaries.values():
            temporary.mkdir()
        checkpoints = Path(scratch) / "checkpoints" if trial else checkpoint_directory(run, name, params, inputs)
        identity = {str(arguments[flag]): md5 for flag, md5 in inputs.items()}
        context = StageContext(name, MemorySink(), checkpoints, lambda: None, identity, config.train, trial)
        with suppress(DoesNotFitError), losses_of_processes_named():
            run(params, **{**arguments, **temporaries}, context=context)
        if trial and process_rank() == 0:
            for temporary in temporaries.values():
                artifacts.write_manifest(temporary, stage=name, params=values, inputs=inputs)
                artifacts.dvc_md5(temporary)
            facts = {"params": params_digest(config, values), "threads": context.record.get("threads")}
            print(json.dumps({**facts, **trial.whole(context.record.get("device", "cpu"))}))
    return 0


def _published(path: Path, outs_by_temporary: dict[Path, Path]) -> Path:
    """Where a file written into a temporary out lies after the rename."""
    for temporary, out in outs_by_temporary.items():
        if path == temporary or temporary in path.parents:
            return out / path.relative_to(temporary)
    return path


def stage_name(run: Callable[..., None]) -> str:
    """`stages/finetune.py` is the stage `finetune`, also when it runs as `__main__`."""
    return Path(inspect.getfile(run)).stem


def instance_name(run: Callable[..., None], arguments: dict[str, Any]) -> str:
    """The stage's name with its matrix values, as DVC spells it: `finetune@section-base-full-0`. It becomes part of file names."""
    given = os.environ.get("DVC_STAGE", "")
    if re.fullmatch(rf"{re.escape(stage_name(run))}[\w.@-]*", given):
        return given
    values = [str(value) for value in arguments.values() if not isinstance(value, Path)]
    return "@".join([stage_name(run), "-".join(values)]) if values else stage_name(run)


def parse_arguments(run: Callable[..., None], argv: list[str]) -> dict[str, Any]:
    """One `--flag` for each keyword argument of `run`, `--record` for the record file, and the flags of a trial."""
    parser = argparse.ArgumentParser(prog=f"python -m stages.{stage_name(run)}", description=inspect.getmodule(run).__doc__)
    for name, kind in flag_types(run).items():
        parser.add_argument(f"--{name.replace('_', '-')}", dest=name, type=kind, required=True)
    parser.add_argument("--record", type=Path, required=True, help="where the record of this run goes")
    parser.add_argument(
        "--try", type=int, metavar="N", help="take N steps in each training loop, print what all would take, publish nothing"
    )
    parser.add_argument("--memory-mb", type=float, help="with --try: as if there were so much memory")
    found = vars(parser.parse_args(argv))
    if found["try"] is not None and found["try"] < 1:
        parser.error(f"--try {found['try']}: it is 1 or more")
    return found


def flag_types(run: Callable[..., None]) -> dict[str, Callable[[str], Any]]:
    """The keyword arguments of `run` that are flags, with the type that parses each."""
    hints = typing.get_type_hints(run)
    return {name: hints[name] for name in inspect.signature(run).parameters if name not in ("params", "context")}


def out_names(run: Callable[..., None]) -> list[str]:
    """The arguments of `run` annotated `Out`."""
    hints = typing.get_type_hints(run, include_extras=True)
    return [name for name, hint in hints.items() if typing.get_origin(hint) is Annotated and _OUT in typing.get_args(hint)[1:]]


_NAMED_BY = {"tasks": "task", "encoders": "encoder_name", "recipes": "recipe"}
"""Sections of named entries, and the flag that names the one that a stage is for."""


def select_params(config: Config, params_class: type[Options], arguments: Mapping[str, Any] = {}) -> Options:
    """The sections that a stage reads, out of the validated whole; a stage of one task, encoder or recipe sees that one alone.

    Raises:
        ConfigError: the flags name one that params.yaml does not define.
    """
    sections = {name: getattr(config, name) for name in params_class.model_fields}
    narrowed = getattr(params_class, "narrowed", None)
    sections = narrowed(sections) if narrowed else sections
    for section, flag in _NAMED_BY.items():
        if section in sections and (name := arguments.get(flag)):
            sections[section] = {name: defined(section, name, sections[section])}
    return params_class.model_construct(**sections)


def fingerprint(run: Callable[..., None], stage: str, params: Options, inputs: dict[str, str]) -> str:
    """Names a checkpoint directory: equal only for the same stage, params, inputs and code, that of chosen components included."""
    text = json.dumps([stage, params.model_dump(mode="json", by_alias=True), inputs, code_digests(run, params)], sort_keys=True)
    return f"{stage.replace('@', '-')}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def code_digests(run: Callable[..., None], params: Options) -> Digests:
    """The entries of the code's lock that are this stage's: its own, and those of the encoder, recipe and task that it is for."""
    code = Code(stages=Path(inspect.getfile(run)).parent)
    digest_of: dict[str, Callable[[Any], str]] = {"encoders": code.of_encoder, "recipes": code.of_recipe, "tasks": code.of_task}
    chosen = {section: getattr(params, section) for section in digest_of if section in type(params).model_fields}
    name = stage_name(run)
    return {
        "stages": {name: code.of_stage(name)},
        **{section: {each: digest_of[section](value) for each, value in entries.items()} for section, entries in chosen.items()},
    }


def _check_code(run: Callable[..., None], params: Options) -> None:
    """Under DVC, refuse to run code that is not what DVC will record: it was changed since the stage `code` ran.

    Raises:
        ConfigError: names the entries of the lock that differ.
    """
    if "DVC_STAGE" not in os.environ or stage_name(run) == _WRITES_LOCK or not LOCK.is_file():
        return
    recorded = read_yaml(LOCK)
    differing = [
        f"{section}.{name}"
        for section, entries in code_digests(run, params).items()
        for name, digest in entries.items()
        if recorded.get(section, {}).get(name) != digest
    ]
    if differing:
        raise ConfigError(f"{LOCK}: the code was changed after it was written ({', '.join(differing)}); run the same command again")
