"""The MLflow registry: versions of an exported model, the gates before `champion`, and the way back.

`python -m acclimate.adapters.registry history|rollback NAME` from the command line.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from acclimate import artifacts
from acclimate.adapters import tracking
from acclimate.adapters.gates import Candidate, Gate, judge
from acclimate.config import GatesConfig, load_config
from acclimate.errors import AcclimateError, EnvironmentUnfitError, ModelError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.models import ModelSignature

CHAMPION, CHALLENGER = "champion", "challenger"
_MOVE_TAG = "champion.move."
_TOLERANCE = 1e-5
"""Of probabilities and scores: the same graph on the same machine, perhaps with other threads."""


@dataclass(frozen=True)
class Registration:
    """A registered version."""

    name: str
    version: int
    model_uri: str
    run_id: str
    aliases: list[str]
    gates: list[Gate]


@dataclass(frozen=True)
class Move:
    """The champion changed."""

    at: str
    before: int | None
    after: int
    reason: str


def register(
    candidate: Candidate,
    gates: GatesConfig,
    *,
    export: Path,
    evaluate: Path,
    model_name: str,
    uri: str,
    run_id: str,
    experiment: str | None = None,
) -> Registration:
    """Log the exported model to a run, register it as challenger, and move `champion` when every gate holds.

    Args:
        uri: of the tracking store.
        run_id: the run that the model is logged to; it must be active.
        experiment: the name of a DVC experiment; its version is registered under that name and gets no alias.

    Raises:
        EnvironmentUnfitError: MLflow does not answer.
        ModelError: the registered model does not predict what the exported one did.
    """
    name = f"{model_name}-{candidate.task}"
    with _mlflow_errors(uri):
        client = tracking.connect(tracking.resolve_uri(uri))
        model_uri = _log_model(candidate, export, run_id)
        champion = _champion(client, name)
        judged = judge(candidate, gates, champion.tags if champion else None)
        version = _create_version(client, name, model_uri, run_id, _version_tags(candidate, judged, export, evaluate))
        _verify(f"models:/{name}/{version}", export)
        aliases: list[str] = []
        if experiment:
            client.set_model_version_tag(name, str(version), "dvc.experiment", experiment)
        else:
            client.set_registered_model_alias(name, CHALLENGER, str(version))
            aliases.append(CHALLENGER)
        if not experiment and all(gate.holds for gate in judged):
            reason = f"every gate holds ({candidate.metric} {candidate.value:.4f})"
            _move_champion(client, name, before=int(champion.version) if champion else None, after=version, reason=reason)
            aliases.append(CHAMPION)
    return Registration(name=name, version=version, model_uri=f"models:/{name}/{version}", run_id=run_id, aliases=aliases, gates=judged)


def history(name: str, *, uri: str) -> list[Move]:
    """Every change of the champion, the first one first. The ledger is only ever added to."""
    with _mlflow_errors(uri):
        model = tracking.connect(tracking.resolve_uri(uri)).get_registered_model(name)
    return [Move(**json.loads(value)) for key, value in sorted(model.tags.items()) if key.startswith(_MOVE_TAG)]


def rollback(name: str, *, uri: str, to: int | None = None) -> Move:
    """Give `champion` back to the version that had it before, or to another one.

    Raises:
        ModelError: there was no champion before, or no such version.
    """
    moves = history(name, uri=uri)
    with _mlflow_errors(uri):
        client = tracking.connect(tracking.resolve_uri(uri))
        champion = _champion(client, name)
        present = int(champion.version) if champion else None
        target = to if to is not None else _before(moves, present)
        if target is None:
            raise ModelError(f"{name}: version {present} is the first champion; there is nothing to go back to")
        versions = sorted(int(each.version) for each in client.search_model_versions(f"name='{name}'"))
        if target not in versions:
            raise ModelError(f"{name}: no version {target}; there are: {', '.join(map(str, versions))}")
        return _move_champion(client, name, before=present, after=target, reason="rollback")


def _before(moves: list[Move], present: int | None) -> int | None:
    """Who was champion before the present one took over, rollbacks left out."""
    taken = [move for move in moves if move.after == present and move.reason != "rollback"]
    return taken[-1].before if taken else None


def _move_champion(client: MlflowClient, name: str, *, before: int | None, after: int, reason: str) -> Move:
    now_ns = time.time_ns()
    move = Move(at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now_ns // 10**9)), before=before, after=after, reason=reason)
    # The ledger first: an alias without its line would be a champion nobody can explain.
    client.set_registered_model_tag(name, f"{_MOVE_TAG}{now_ns:020d}", json.dumps(asdict(move)))
    client.set_registered_model_alias(name, CHAMPION, str(after))
    return move


def _champion(client: MlflowClient, name: str) -> Any:
    """The champion's version; None without one."""
    from mlflow.exceptions import MlflowException

    try:
        return client.get_model_version_by_alias(name, CHAMPION)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


def _create_version(client: MlflowClient, name: str, model_uri: str, run_id: str, tags: dict[str, str]) -> int:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name, description="A text model adapted, fine-tuned and exported by acclimate.")
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    model_id = model_uri.removeprefix("models:/")
    created = client.create_model_version(name, source=model_uri, run_id=run_id, tags=tags, model_id=model_id)
    return int(created.version)


def _version_tags(candidate: Candidate, gates: list[Gate], export: Path, evaluate: Path) -> dict[str, str]:
    return {
        "task": candidate.task,
        "metric_name": candidate.metric,
        "metric": repr(candidate.value),
        "encoder": candidate.encoder,
        "seed": str(candidate.seed),
        "variant": candidate.variant,
        "gates": json.dumps([asdict(gate) for gate in gates]),
        "git_commit": tracking.git("rev-parse", "--verify", "-q", "HEAD") or "none",
        f"dvc.{export.as_posix()}": artifacts.dvc_md5(export),
        f"dvc.{evaluate.as_posix()}": artifacts.dvc_md5(evaluate),
    }


def _log_model(candidate: Candidate, export: Path, run_id: str) -> str:
    """Log the graph, its tokenizer and the code that runs them. Returns `models:/m-...`."""
    import tempfile

    import mlflow

    from acclimate.export import predictor

    examples = artifacts.read_json(export / "parity.json")["examples"][:2]
    signature, example = _signature(candidate.kind, examples)
    with tempfile.TemporaryDirectory() as directory:
        for name in (candidate.file, "tokenizer.json", "task.json"):
            # A copy: MLflow refuses a symbolic link to a place outside of this directory.
            shutil.copyfile(export / name, Path(directory) / name)
        with mlflow.start_run(run_id=run_id):
            logged = mlflow.pyfunc.log_model(
                name=candidate.task,
                python_model=str(Path(__file__).with_name("serving_model.py")),
                artifacts={"export": directory},
                code_paths=[str(predictor.__file__)],
                model_config={"variant": candidate.file},
                pip_requirements=_requirements(),
                signature=signature,
                input_example=example,
                metadata={"task": candidate.task, "kind": candidate.kind, "encoder": candidate.encoder, "seed": candidate.seed},
            )
    return str(logged.model_uri)


def _requirements() -> list[str]:
    """What the model needs, at the versions it was made with; onnxruntime as it is installed here, with or without a GPU."""
    found = []
    for names in (("mlflow",), ("numpy",), ("onnxruntime", "onnxruntime-gpu"), ("pandas",), ("tokenizers",)):
        for name in names:
            try:
                found.append(f"{name}=={installed_version(name)}")
            except PackageNotFoundError:
                continue
    return found


def _signature(kind: str, examples: list[dict[str, Any]]) -> tuple[ModelSignature, Any]:
    """What goes in and comes out, and an example of it.

    A list of texts is accepted only where the text's column has no name; a task on pairs needs both names.
    """
    from mlflow.models import ModelSignature
    from mlflow.types.schema import Array, ColSpec, DataType, Map, Object, Property, Schema

    text, number, whole = DataType.string, DataType.double, DataType.long
    span = Object([Property("type", text), Property("start", whole), Property("end", whole), Property("text", text)])
    outputs: list[Any] = {
        "classification": [ColSpec(text, "label"), ColSpec(number, "probability"), ColSpec(Map(number), "probabilities")],
        "multi_label": [ColSpec(Array(text), "labels"), ColSpec(Map(number), "probabilities")],
        "regression": [ColSpec(number, "score")],
        "tagging": [ColSpec(Array(span), "spans")],
    }[kind]
    if examples[0]["text_pair"] is None:
        return ModelSignature(Schema([ColSpec(text)]), Schema(outputs)), [example["text"] for example in examples]
    named = Schema([ColSpec(text, "text"), ColSpec(text, "text_pair")])
    return ModelSignature(named, Schema(outputs)), [{"text": example["text"], "text_pair": example["text_pair"]} for example in examples]


def _verify(model_uri: str, export: Path) -> None:
    """Load what was registered and ask it what the exported model was asked.

    Raises:
        ModelError: an answer differs.
    """
    import mlflow

    examples = artifacts.read_json(export / "parity.json")["examples"]
    keys = ["text"] if examples[0]["text_pair"] is None else ["text", "text_pair"]
    rows = mlflow.pyfunc.load_model(model_uri).predict([{key: example[key] for key in keys} for example in examples])
    for example, answer in zip(examples, rows.to_dict("records"), strict=True):
        if not _same(example["prediction"], answer):
            raise ModelError(f"{model_uri}: example {example['id']!r} gives {answer}, the exported model gave {example['prediction']}")


def _same(expected: Any, found: Any) -> bool:
    if isinstance(expected, dict):
        return isinstance(found, dict) and expected.keys() == found.keys() and all(_same(expected[key], found[key]) for key in expected)
    if isinstance(expected, float):
        return bool(abs(expected - found) <= _TOLERANCE)
    return bool(expected == found)


@contextmanager
def _mlflow_errors(uri: str) -> Iterator[None]:
    """Turn what MLflow raises into an error for the user."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        raise EnvironmentUnfitError(f"MLflow at {uri}: {tracking.first_line(error)}") from error


def main(argv: list[str]) -> int:
    """The command line: the ledger of a model, and the way back."""
    import argparse

    parser = argparse.ArgumentParser(prog="python -m acclimate.adapters.registry", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("command", choices=["history", "rollback"])
    parser.add_argument("name", help="the registered model, such as acclimate-section")
    parser.add_argument("--to", type=int, help="rollback: the version to make champion; without it, the one before")
    arguments = parser.parse_args(argv)
    try:
        uri = tracking.configured_uri(load_config().tracking)
        if arguments.command == "rollback":
            rollback(arguments.name, uri=uri, to=arguments.to)
        for move in history(arguments.name, uri=uri):
            print(f"{move.at}  {move.before or '-'} -> {move.after}  {move.reason}")
    except AcclimateError as error:
        print(f"registry: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
