"""The command `acclimate`: what needs no stage to run. Each command but `plan` answers at once; nothing heavy is imported here."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from acclimate.artifacts import read_json
from acclimate.errors import AcclimateError, ConfigError, DataError, disk_faults_named
from acclimate.params_file import read_yaml
from acclimate.redaction import redact
from acclimate.runtime import keep_private, prepare_environment

if TYPE_CHECKING:
    from acclimate.config import Config

PARAMS = Path("params.yaml")


def main(argv: list[str] | None = None) -> int:
    """Run one command; 0 is success, 1 an error that the user can mend, 2 a wrong command line, 130 stopped by Ctrl-C."""
    arguments = _parser().parse_args(argv)
    prepare_environment()
    keep_private()
    try:
        with disk_faults_named():
            _run(arguments)
    except AcclimateError as error:
        print(redact(f"acclimate {arguments.command}: {error}"), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"acclimate {arguments.command}: stopped", file=sys.stderr)
        return 130
    return 0


def _run(arguments: argparse.Namespace) -> None:
    if arguments.command == "check":
        check(PARAMS, arguments.profile)
    elif arguments.command == "profile":
        lay_profile(PARAMS, arguments.name)
    elif arguments.command == "verify":
        verify()
    elif arguments.command == "plan":
        plan(PARAMS, arguments.profile, memory_mb=arguments.memory_mb)
    else:
        summary(arguments.file)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="acclimate", description="Take a pretrained text encoder to a domain.")
    commands = parser.add_subparsers(dest="command", required=True)
    checking = commands.add_parser("check", help="validate params.yaml; every mistake at once")
    checking.add_argument("--profile", help="lay this profile over params.yaml first")
    planning = commands.add_parser("plan", help="try a few steps of each training stage; tell its time, memory and cost")
    planning.add_argument("--profile", help="lay this profile over params.yaml first")
    planning.add_argument("--memory-mb", type=_positive, help="plan for so much memory, of the GPU where there is one")
    commands.add_parser("verify", help="compare every out with the digest that dvc.lock records")
    profile = commands.add_parser("profile", help="lay params.<name>.yaml over params.yaml")
    profile.add_argument("name")
    summarizing = commands.add_parser("summary", help="print what the last run made")
    summarizing.add_argument("file", type=Path, nargs="?", default=Path("artifacts/report/summary.txt"))
    return parser


def _positive(text: str) -> float:
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


def check(params: Path, profile: str | None = None) -> None:
    """Validate params.yaml and say in a line what it asks for.

    Raises:
        ConfigError: every mistake, one a line.
    """
    from acclimate.config import load_config
    from acclimate.data.preview import data_problems
    from acclimate.runtime import configure_logging

    configure_logging()  # how files are read, and what is cut, is said here too
    if profile:
        lay_profile(params, profile)
    config = load_config(params)
    data = params.parent / "data"
    if too_long := _too_long(config):
        raise ConfigError("\n  ".join([f"{params}: {len(too_long)} problem{'s' if len(too_long) > 1 else ''}", *too_long]))
    problems = data_problems(config.ingest, config.tasks, data) if data.is_dir() else []
    if problems:
        raise ConfigError("\n  ".join([f"{data}/: {len(problems)} problem{'s' if len(problems) > 1 else ''}", *problems]))
    variants = [variant.name for variant in config.runs.variants]
    runs = sum(len(variants) * len(config.runs.seeds_of(task)) for task in config.runs.all_tasks)
    print(
        f"{params}: valid. {config.model.name}; tasks {', '.join(config.runs.all_tasks)}; "
        f"{runs} fine-tuning runs of {', '.join(variants)}; to export: {', '.join(config.export.tasks)}"
    )


def _too_long(config: Config) -> list[str]:
    """Lengths that the encoder has no positions for."""
    from acclimate.backbones.loading import length_problems
    from acclimate.backbones.source import read_config

    settings = read_config(config.model)
    if settings is None:
        return []
    lengths = {"tokenize.sequence_length": config.tokenize.sequence_length} if config.encoders else {}
    tasks = {name: config.tasks[name].max_length for name in dict.fromkeys([*config.runs.all_tasks, *config.probe.tasks])}
    lengths |= {f"tasks.{name}.max_length": length for name, length in tasks.items()}
    for recipe in config.runs.recipes:
        strategy = config.recipes[recipe].strategy
        if extra := strategy.component.extra_tokens:
            lengths |= {f"tasks.{name}.max_length, with {strategy.name} of {recipe}": length + extra for name, length in tasks.items()}
    return length_problems(settings, lengths)


def plan(params: Path, profile: str | None = None, *, memory_mb: float | None = None) -> None:
    """Go on as `python -m flows.plan`, which runs the stages' commands of dvc.yaml as trials.

    Args:
        memory_mb: plan for so much memory, not for what is free.
    """
    from acclimate.config import load_config

    if profile:
        lay_profile(params, profile)
    load_config(params)
    sys.stdout.flush()
    given = ["--memory-mb", str(memory_mb)] if memory_mb else []
    os.execv(sys.executable, [sys.executable, "-m", "flows.plan", *given])


def verify() -> None:
    """Read every out that dvc.lock records, and every file below data/ that a .dvc file does, and compare.

    Raises:
        DataError: files that are not those recorded, each with the command that brings it back.
    """
    from acclimate.artifacts import files_md5
    from acclimate.dvc_records import problems, recorded_outs

    outs = {Path(out.path) for out in recorded_outs([Path("data")])}
    missing = sorted(str(out) for out in outs if not out.exists())
    if found := problems({out: files_md5(out) for out in outs if out.exists()}):
        raise DataError("\n  ".join([f"{len(found)} of {len(outs)} outs are not what was recorded", *found]))
    print(f"{len(outs) - len(missing)} of {len(outs)} outs are those that were recorded")
    if missing:
        print(f"not here, `dvc checkout` or `make run` brings them: {', '.join(missing)}")


def lay_profile(params: Path, name: str) -> None:
    """Lay a profile over params.yaml and print what changed.

    Raises:
        ConfigError: there is no such profile, or the result is not valid.
        EnvironmentUnfitError: a run is going on.
    """
    from acclimate.locks import RUN_LOCK, held
    from acclimate.profiles import apply_profile

    with held(params.parent / RUN_LOCK, str(params)):  # the stages of a run that is going on would read the other values
        changes = apply_profile(params, name)
    for change in changes:
        print(redact(f"  {change.path}: {change.before} -> {change.after}"))
    print(f"{params}: {len(changes) or 'no'} value{'' if len(changes) == 1 else 's'} changed by profile {name}")
    if changes:
        print(f"{params} now holds them, also for later runs; `git checkout {params}` brings the others back")


def summary(file: Path) -> None:
    """Print the summary that the stage `report` wrote, and where to look further.

    Raises:
        DataError: there is none yet.
    """
    try:
        print(file.read_text(encoding="utf-8"), end="")
    except FileNotFoundError:
        raise DataError(f"{file}: no such file; `make run` makes it") from None
    print("\n".join(["", *_where_to_look(file.parents[1])]))


def _where_to_look(artifacts_directory: Path) -> list[str]:
    """The report, the Data Docs, the runs and each registered model; only what is there."""
    uri = redact(os.environ.get("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db"))
    docs = artifacts_directory.parent / "reports" / "data_docs"
    pages = [("Report", artifacts_directory / "report" / "report.html"), ("Data Docs", docs / "index.html")]
    lines = [f"{name:<10} {path}" for name, path in pages if path.is_file()]
    # Not `mlflow ui`: its server has no key, so each user of the machine reads files and moves aliases through it.
    lines.append(f"{'Runs':<10} make stack" if uri.startswith("sqlite") else f"{'Runs':<10} {uri}")
    exported = read_yaml(PARAMS).get("export", {}).get("tasks", []) if PARAMS.is_file() else []
    for registration in sorted(artifacts_directory.glob("register/*/registration.json")):
        if exported and registration.parent.name not in exported:
            continue  # left by an earlier params.yaml
        model = read_json(registration)
        aliases = " and ".join(model["aliases"])  # of then: an alias moves later, and this file does not
        said = f"became {aliases}" if aliases else f"no alias; `python -m acclimate.adapters.registry promote {model['name']}` judges it"
        lines.append(f"{'Model':<10} models:/{model['name']}/{model['version']} ({said})")
    return lines


if __name__ == "__main__":
    sys.exit(main())
