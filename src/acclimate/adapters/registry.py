"""The MLflow registry: versions of an exported model, the gates before `champion`, and the way back.

`python -m acclimate.adapters.registry history|promote|rollback NAME` from the command line.

The alias `champion` moves only under the lock that all processes of a machine share for one store. Each move is first
written to a ledger, tags of the registered model that are only ever added to.
"""

from __future__ import annotations

import json
import logging
import shutil
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from acclimate import artifacts
from acclimate.adapters import tracking
from acclimate.adapters.gates import AGAIN, WHY_NOT, Candidate, Gate, judge, reason_to_stay
from acclimate.adapters.options import GatesConfig
from acclimate.adapters.remeasure import scores_on
from acclimate.config import load_config
from acclimate.errors import AcclimateError, DataError, GateError, ModelError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.models import ModelSignature

logger = logging.getLogger(__name__)

CHAMPION, CHALLENGER = "champion", "challenger"
_MOVE_TAG = "champion.move."
_CANDIDATE_TAG = "candidate"
"""What the gates look at; a version gets it once it has answered as the export did."""
_AT_ONCE_NS = 60 * 10**9
_PROMOTED, _ROLLBACK = "every gate holds", "rollback"
_FOUND = "the alias was found here: a promotion was stopped before it moved the alias, or it was moved by hand"
_TOLERANCE, _ROUNDING = 1e-5, 2.0**-22
"""Of probabilities and scores: the same graph on the same machine, perhaps with other threads. Of a regression's scores in standard
deviations of the labels; float32 rounds a score beside it."""


@dataclass(frozen=True)
class Registration:
    """A registered version; `aliases` are those that it got when it was registered, `note` says why it did not get `champion`."""

    name: str
    version: int
    model_uri: str
    run_id: str
    aliases: list[str]
    gates: list[Gate]
    note: str


@dataclass(frozen=True)
class Move:
    """The champion changed."""

    at: str
    before: int | None
    after: int | None
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
    table: Path | None = None,
    trial: Mapping[str, str] | None = None,
) -> Registration:
    """Log the exported model to a run, register it as challenger, and move `champion` when every gate holds.

    Args:
        uri: of the tracking store.
        run_id: the run that the model is logged to; it must be active.
        table: the ingested table whose test rows the candidate was measured on; a champion of other rows is measured on them.
        trial: tags that name a run with other values than params.yaml; its version gets them and no alias.

    Raises:
        EnvironmentUnfitError: MLflow does not answer.
        ModelError: the registered model does not predict what the exported one did.
    """
    name, uri = f"{model_name}-{candidate.task}", tracking.resolve_uri(uri)
    with tracking.store_errors(uri):
        client = tracking.connect(uri)
        model_uri = _log_model(candidate, export, run_id)
        version = _create_version(client, name, model_uri, run_id, {**_version_tags(candidate, export, evaluate), **(trial or {})})
        _verify(f"models:/{name}/{version}", export)
        client.set_model_version_tag(name, str(version), _CANDIDATE_TAG, json.dumps(asdict(candidate)))
        aliases = [] if trial else [CHALLENGER]
        with tracking.store_lock(uri):
            if trial:
                judged, note = _judge(client, name, version, candidate, gates, table), "a run with other values moves no alias"
            else:
                client.set_registered_model_alias(name, CHALLENGER, str(version))
                judged, note = _promote(client, name, version, candidate, gates, table)
    if not note:
        aliases.append(CHAMPION)
    return Registration(name, version, f"models:/{name}/{version}", run_id, aliases, judged, note)


def promote(name: str, gates: GatesConfig, *, uri: str, version: int) -> list[Gate]:
    """Move `champion` to a version that was registered earlier, when every gate holds.

    A version of a trial has no alias. When its values become those of params.yaml, DVC restores its registration instead of
    making another one; then this gives it the alias.

    Raises:
        GateError: a gate does not hold, or there is none.
        ModelError: no such version, or one that was never verified.
    """
    uri = tracking.resolve_uri(uri)
    with tracking.store_errors(uri):
        client = tracking.connect(uri)
        tags = _version(client, name, version).tags
        if _CANDIDATE_TAG not in tags:
            raise ModelError(f"{name} version {version}: it was not verified, or an earlier release registered it; register it again")
        with tracking.store_lock(uri):
            judged, note = _promote(client, name, version, _stored_candidate(tags), gates, None)
    if note:
        raise GateError(f"{name} version {version}: {note}")
    return judged


def history(name: str, *, uri: str) -> list[Move]:
    """Every change of the champion, the first one first. The ledger is only ever added to."""
    uri = tracking.resolve_uri(uri)
    with tracking.store_errors(uri):
        client = tracking.connect(uri)
        return [*_ledger(client, name).values(), *_unwritten(client, name)]


def rollback(name: str, *, uri: str, to: int | None = None) -> Move:
    """Give `champion` back to the version that had it before, or to another one.

    Raises:
        ModelError: there was no champion before, or no such version.
    """
    uri = tracking.resolve_uri(uri)
    with tracking.store_errors(uri):
        client = tracking.connect(uri)
        with tracking.store_lock(uri):
            champion = _settled_champion(client, name)
            present = int(champion.version) if champion else None
            target = to if to is not None else _before(list(_ledger(client, name).values()), present)
            if target is None:
                raise ModelError(f"{name}: version {present} is the first champion; there is nothing to go back to")
            _version(client, name, target)
            return _move_champion(client, name, before=present, after=target, reason=_ROLLBACK)


def _before(moves: list[Move], present: int | None) -> int | None:
    """Who was champion before the present one was promoted."""
    promoted = [move for move in moves if move.after == present and move.reason.startswith(_PROMOTED)]
    return promoted[-1].before if promoted else None


def _judge(client: MlflowClient, name: str, version: int, candidate: Candidate, gates: GatesConfig, table: Path | None) -> list[Gate]:
    """Hold a version against the gates and the present champion; the result is a tag of it."""
    champion = _champion(client, name)
    judged = judge(candidate, gates, champion and _comparable(champion, candidate, gates, table))
    client.set_model_version_tag(name, str(version), "gates", json.dumps([asdict(gate) for gate in judged]))
    return judged


def _comparable(other: Any, candidate: Candidate, gates: GatesConfig, table: Path | None) -> dict[str, str]:
    """A version's tags; where it was measured on other test rows than the candidate, with its metric on these."""
    tags, model_uri = dict(other.tags), f"models:/{other.name}/{other.version}"
    if gates.min_over_champion is None or tags.get("test_rows") == candidate.test_rows:
        return tags
    if table is None or not candidate.test_rows:
        return {**tags, WHY_NOT: "run the stage `register` again, which measures both on the same rows"}
    try:
        found = scores_on(model_uri, table, test_rows=candidate.test_rows)
    except (DataError, ModelError) as error:
        return {**tags, WHY_NOT: f"{error}; set min_over_champion to null for one run, or promote by hand"}
    logger.info("%s was measured on other test rows; on today's its %s is %.4f", model_uri, candidate.metric, found[candidate.metric])
    told = f"the champion measured again on today's test rows (it had {tags.get('metric_name')} {tags.get('metric')} on others)"
    return {**tags, "metric_name": candidate.metric, "metric": repr(found[candidate.metric]), "test_rows": candidate.test_rows, AGAIN: told}


def _promote(
    client: MlflowClient, name: str, version: int, candidate: Candidate, gates: GatesConfig, table: Path | None
) -> tuple[list[Gate], str]:
    """Move `champion` to a version, or say why not. The caller holds the store's lock."""
    champion = _settled_champion(client, name)
    present = int(champion.version) if champion else None
    if present == version:
        return [], ""  # again, and nothing to do
    judged = _judge(client, name, version, candidate, gates, table)
    if note := reason_to_stay(judged):
        return judged, note
    reason = f"{_PROMOTED} ({candidate.metric} {candidate.value:.4f})"
    _move_champion(client, name, before=present, after=version, reason=reason)
    winner = _settle_with_rivals(client, name, version, candidate, gates, table)
    return judged, "" if winner == version else f"version {winner} was promoted at the same time and is better"


def _settle_with_rivals(client: MlflowClient, name: str, version: int, candidate: Candidate, gates: GatesConfig, table: Path | None) -> int:
    """Leave `champion` with the best of those promoted within a minute. Returns that version.

    Another machine does not share the lock, and MLflow has no compare-and-set. But each promotion writes its line before it
    moves the alias and looks for others' lines after it, so the last one to move the alias sees all of them.
    """
    winner, alias, seen = version, version, {version}
    while rivals := _promoted_lately(client, name) - seen:
        seen |= rivals
        for rival in rivals:
            found = _version(client, name, rival)
            if _CANDIDATE_TAG in found.tags and reason_to_stay(judge(candidate, gates, _comparable(found, candidate, gates, table))):
                winner, candidate = rival, _stored_candidate(found.tags)
        if winner != alias:
            _move_champion(client, name, before=alias, after=winner, reason=f"better than version {alias}, promoted at the same time")
            alias = winner
    return winner


def _promoted_lately(client: MlflowClient, name: str) -> set[int]:
    """The versions that were promoted in the last minute, and not before a rollback."""
    found: set[int] = set()
    ledger = _ledger(client, name)
    for key, move in ledger.items():
        if move.reason == _ROLLBACK:
            found.clear()
        elif move.reason.startswith(_PROMOTED) and _nanoseconds(key) > _nanoseconds(max(ledger)) - _AT_ONCE_NS:
            found.add(int(move.after or 0))
    return found


def _nanoseconds(key: str) -> int:
    return int(key.removeprefix(_MOVE_TAG))


def _move_champion(client: MlflowClient, name: str, *, before: int | None, after: int, reason: str) -> Move:
    # The ledger first: an alias without its line would be a champion nobody can explain.
    move = _write_ledger(client, name, before, after, reason)
    client.set_registered_model_alias(name, CHAMPION, str(after))
    return move


def _write_ledger(client: MlflowClient, name: str, before: int | None, after: int | None, reason: str) -> Move:
    last = max(map(_nanoseconds, _ledger(client, name)), default=0)
    now_ns = max(time.time_ns(), last + 1)  # in order even where a clock goes back
    move = Move(at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now_ns // 10**9)), before=before, after=after, reason=reason)
    client.set_registered_model_tag(name, f"{_MOVE_TAG}{now_ns:020d}", json.dumps(asdict(move)))
    return move


def _ledger(client: MlflowClient, name: str) -> dict[str, Move]:
    """The lines of the ledger in order, by the tags that hold them."""
    found = {}
    for key, value in sorted(client.get_registered_model(name).tags.items()):
        if key.startswith(_MOVE_TAG):
            try:
                _nanoseconds(key)
                found[key] = Move(**json.loads(value))
            except (TypeError, ValueError):
                raise ModelError(f"{name}: its tag {key} is no line of the ledger; somebody changed it; delete the tag") from None
    return found


def _settled_champion(client: MlflowClient, name: str) -> Any:
    """The champion's version, after the ledger says how it came to be."""
    for move in _unwritten(client, name):
        _write_ledger(client, name, move.before, move.after, move.reason)
    return _champion(client, name)


def _unwritten(client: MlflowClient, name: str) -> list[Move]:
    """The line that is missing where the alias is not where the last line says."""
    champion, moves = _champion(client, name), list(_ledger(client, name).values())
    present, last = int(champion.version) if champion else None, moves[-1].after if moves else None
    return [] if present == last else [Move(at="-", before=last, after=present, reason=_FOUND)]


def _version(client: MlflowClient, name: str, version: int) -> Any:
    """A version of a model.

    Raises:
        ModelError: there is none; the message names those that there are.
    """
    found = {int(each.version): each for each in client.search_model_versions(f"name='{name}'")}
    if version not in found:
        raise ModelError(f"{name}: no version {version}; there are: {', '.join(map(str, sorted(found))) or 'none'}")
    return found[version]


def _stored_candidate(tags: dict[str, str]) -> Candidate:
    try:
        return Candidate(**json.loads(tags[_CANDIDATE_TAG]))
    except (TypeError, ValueError):
        raise ModelError(f"a version's tag `{_CANDIDATE_TAG}` is not what was stored; somebody changed it; register it again") from None


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


def _version_tags(candidate: Candidate, export: Path, evaluate: Path) -> dict[str, str]:
    return {
        "task": candidate.task,
        "metric_name": candidate.metric,
        "metric": repr(candidate.value),
        "test_rows": candidate.test_rows,
        "encoder": candidate.encoder,
        "recipe": candidate.recipe,
        "seed": str(candidate.seed),
        "variant": candidate.variant,
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
    signature, example = _signature(predictor.load_decoder(export / predictor.DECODER).outputs, examples)
    with tempfile.TemporaryDirectory() as directory:
        prepared = [name for name in predictor.PREPARATION if (export / name).is_file()]
        for name in (candidate.file, "tokenizer.json", "task.json", predictor.DECODER, *prepared):
            # A copy: MLflow refuses a symbolic link to a place outside of this directory.
            shutil.copyfile(export / name, Path(directory) / name)
        with mlflow.start_run(run_id=run_id):
            logged = mlflow.pyfunc.log_model(
                name=candidate.task,
                python_model=str(Path(__file__).with_name("serving_model.py")),
                artifacts={"export": directory},
                code_paths=[str(predictor.__file__)],
                model_config={"variant": candidate.file, "answer": None},  # MLflow takes no key at loading that is not here
                pip_requirements=_requirements(),
                signature=signature,
                input_example=example,
                metadata={
                    "task": candidate.task,
                    "kind": candidate.kind,
                    "encoder": candidate.encoder,
                    "recipe": candidate.recipe,
                    "seed": candidate.seed,
                },
            )
    return str(logged.model_uri)


def _requirements() -> list[str]:
    """What the model needs, at the versions it was made with; onnxruntime as it is installed here, with or without a GPU."""
    found = []
    for names in (("ftfy",), ("mlflow",), ("numpy",), ("onnxruntime", "onnxruntime-gpu"), ("pandas",), ("tokenizers",)):
        for name in names:
            try:
                found.append(f"{name}=={installed_version(name)}")
            except PackageNotFoundError:
                continue
    return found


def _signature(outputs: Mapping[str, Any], examples: list[dict[str, Any]]) -> tuple[ModelSignature, Any]:
    """What goes in and comes out, and an example of it.

    A list of texts is accepted only where the text's column has no name; a task with several inputs needs their names.

    Args:
        outputs: types as a decoder names them.
    """
    from mlflow.models import ModelSignature
    from mlflow.types.schema import ColSpec, DataType, Schema

    answer = Schema([ColSpec(_mlflow_type(each), name) for name, each in outputs.items()])
    names = list(examples[0]["inputs"])
    if len(names) == 1:
        return ModelSignature(Schema([ColSpec(DataType.string)]), answer), [example["inputs"][names[0]] for example in examples]
    named = Schema([ColSpec(DataType.string, name) for name in names])
    return ModelSignature(named, answer), [example["inputs"] for example in examples]


def _mlflow_type(described: Any) -> Any:
    """A type that a decoder describes by plain data, see `predictor.Decoder.outputs`."""
    from mlflow.types.schema import Array, DataType, Map, Object, Property

    if isinstance(described, str):
        return DataType[described]
    if isinstance(described, list):
        return Array(_mlflow_type(described[0]))
    if set(described) == {"*"}:
        return Map(_mlflow_type(described["*"]))
    return Object([Property(name, _mlflow_type(each)) for name, each in described.items()])


def _verify(model_uri: str, export: Path) -> None:
    """Load what was registered and ask it what the exported model was asked.

    Raises:
        ModelError: an answer differs.
    """
    import mlflow

    parity = artifacts.read_json(export / "parity.json")
    examples, tolerance = parity["examples"], _TOLERANCE * float(parity.get("unit", 1.0))
    rows = mlflow.pyfunc.load_model(model_uri).predict([example["inputs"] for example in examples])
    for example, answer in zip(examples, rows.to_dict("records"), strict=True):
        if not _same(example["prediction"], answer, tolerance):
            raise ModelError(f"{model_uri}: example {example['id']!r} gives {answer}, the exported model gave {example['prediction']}")


def _same(expected: Any, found: Any, tolerance: float) -> bool:
    if isinstance(expected, dict):
        alike = isinstance(found, dict) and expected.keys() == found.keys()
        return alike and all(_same(expected[key], found[key], tolerance) for key in expected)
    if isinstance(expected, float):
        return bool(abs(expected - found) <= tolerance + _ROUNDING * abs(expected))
    return bool(expected == found)


def main(argv: list[str]) -> int:
    """The command line: the ledger of a model, the way up and the way back."""
    import argparse

    parser = argparse.ArgumentParser(prog="python -m acclimate.adapters.registry", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("command", choices=["history", "promote", "rollback"])
    parser.add_argument("name", help="the registered model, such as acclimate-section")
    parser.add_argument("--version", type=int, help="promote: which one; without it, the one that artifacts/register/ holds")
    parser.add_argument("--to", type=int, help="rollback: the version to make champion; without it, the one before")
    arguments = parser.parse_args(argv)
    try:
        config = load_config(components=False)
        uri = tracking.configured_uri(config.tracking)
        if arguments.command == "promote":
            promote(arguments.name, config.register_.gates, uri=uri, version=arguments.version or _registered_here(arguments.name))
        elif arguments.command == "rollback":
            rollback(arguments.name, uri=uri, to=arguments.to)
        for move in history(arguments.name, uri=uri):
            print(f"{move.at}  {move.before or '-'} -> {move.after or '-'}  {move.reason}")
    except AcclimateError as error:
        print(f"registry: {error}", file=sys.stderr)
        return 1
    return 0


def _registered_here(name: str) -> int:
    """The version that this checkout's outs name.

    Raises:
        ModelError: there is none.
    """
    found = [artifacts.read_json(path) for path in sorted(Path("artifacts/register").glob("*/registration.json"))]
    versions = [int(each["version"]) for each in found if each["name"] == name]
    if not versions:
        raise ModelError(f"{name}: artifacts/register/ names no version of it; give --version")
    return versions[0]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
