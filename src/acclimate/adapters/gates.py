"""The gates of params.yaml: what a new version must meet to become champion."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from acclimate import artifacts, kinds
from acclimate.adapters.options import GatesConfig
from acclimate.errors import DataError

AGAIN, WHY_NOT = "measured_again", "why_not_measured_again"
"""Beside the tags of a champion that stood on other test rows: that it was measured on today's, or why it could not be."""


@dataclass(frozen=True)
class Gate:
    """One condition of becoming champion. `value` is None where it does not apply; `note` says why."""

    gate: str
    value: float | None
    limit: float
    holds: bool
    note: str = ""


@dataclass(frozen=True)
class Candidate:
    """What a new version is judged by, read from the stages `export` and `evaluate`."""

    task: str
    kind: str
    metric: str
    value: float
    baseline: float | None
    calibration_error: float | None
    latency_ms: float
    latency_batch: int
    encoder: str
    recipe: str
    seed: int
    variant: str
    file: str
    test_rows: str = ""
    """Digest of the test rows that it was measured on; empty for a version of an earlier release."""


def read_candidate(task: str, export: Path, evaluate: Path) -> Candidate:
    """Gather what the gates look at.

    Raises:
        DataError: a key is missing; the message names the file and the key.
    """
    spec = artifacts.read_json(export / "task.json")
    chosen = _Json(export / "chosen.json")
    measured = _Json(export / "metrics.json")
    judged = _Json(evaluate / "metrics.json")
    metric = str(judged.get(task, "metric"))
    variant = str(chosen.get("variant"))
    latency = measured.get("variants", variant, "latency_ms")
    batch = min(int(size) for size in latency)
    baselines = [float(scores[metric]) for scores in judged.get(task, "baseline").values() if metric in scores]
    encoder, recipe = str(chosen.get("encoder")), str(chosen.get("recipe"))
    calibration = (judged.get(task).get("calibration_error") or {}).get(f"{encoder}-{recipe}")
    return Candidate(
        task=task,
        kind=str(spec["kind"]),
        metric=metric,
        value=float(measured.get("variants", variant, "metric", metric)),
        baseline=(max if kinds.higher_is_better(str(spec["kind"]), metric) else min)(baselines) if baselines else None,
        calibration_error=None if calibration is None else float(calibration),
        latency_ms=float(latency[str(batch)]),
        latency_batch=batch,
        encoder=encoder,
        recipe=recipe,
        seed=int(chosen.get("seed")),
        variant=variant,
        file=str(chosen.get("file")),
        test_rows=str(measured.get("test_rows", "sha256")),
    )


class _Json:
    """A JSON file whose missing keys are told by path."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._content = artifacts.read_json(path)

    def get(self, *keys: str) -> Any:
        value = self._content
        for depth, key in enumerate(keys):
            if not isinstance(value, dict) or key not in value:
                present = ", ".join(map(str, value)) if isinstance(value, dict) else type(value).__name__
                raise DataError(f"{self._path}: no {'.'.join(keys[: depth + 1])!r}; at that place there is: {present}")
            value = value[key]
        return value


def judge(candidate: Candidate, gates: GatesConfig, champion: dict[str, str] | None) -> list[Gate]:
    """Evaluate the gates that params.yaml sets.

    Args:
        champion: tags of the present champion's version; None when there is no champion. Where it was measured on other test rows, the
            gate does not hold.
    """
    sign = 1.0 if kinds.higher_is_better(candidate.kind, candidate.metric) else -1.0
    found = []
    if gates.min_metric is not None:
        # An error must not exceed the limit, any other metric must reach it.
        found.append(Gate("min_metric", candidate.value, gates.min_metric, sign * (candidate.value - gates.min_metric) >= 0))
    if gates.min_over_baseline is not None:
        found.append(_above("min_over_baseline", candidate, candidate.baseline, gates.min_over_baseline, sign, "no baseline for this task"))
    if gates.min_over_champion is not None:
        found.append(_over_champion(candidate, champion, gates.min_over_champion, sign))
    if gates.max_latency_ms is not None:
        found.append(Gate("max_latency_ms", candidate.latency_ms, gates.max_latency_ms, candidate.latency_ms <= gates.max_latency_ms))
    if gates.max_calibration_error is not None:
        error, limit = candidate.calibration_error, gates.max_calibration_error
        note = f"not defined for {candidate.kind}" if error is None else ""
        found.append(Gate("max_calibration_error", error, limit, error is None or error <= limit, note))
    return found


def reason_to_stay(gates: list[Gate]) -> str:
    """Why a version may not become champion; empty when it may. Nothing becomes champion without being measured."""
    failed = [_refusal(gate) for gate in gates if not gate.holds]
    if failed:
        return f"{len(failed)} of {len(gates)} gates do not hold: {', '.join(failed)}"
    if not gates:
        return "register.gates sets no gate, and nothing becomes champion without one; set min_metric or min_over_baseline"
    if all(gate.value is None for gate in gates):
        passed_over = ", ".join(f"{gate.gate} ({gate.note})" for gate in gates)
        return f"no gate applies: {passed_over}; set min_metric or min_over_baseline"
    return ""


def _refusal(gate: Gate) -> str:
    value = "has no value" if gate.value is None else f"is {gate.value:.4f}"
    return f"{gate.gate} {value}, its limit {gate.limit:g}{f' ({gate.note})' if gate.note else ''}"


def _above(name: str, candidate: Candidate, other: float | None, limit: float, sign: float, absent: str) -> Gate:
    """The candidate's lead over another value, against the least that is asked for."""
    if other is None:
        return Gate(name, None, limit, holds=True, note=absent)
    lead = sign * (candidate.value - other)
    return Gate(name, lead, limit, lead >= limit, f"{candidate.metric} {candidate.value:.4f} against {other:.4f}")


def _over_champion(candidate: Candidate, champion: dict[str, str] | None, limit: float, sign: float) -> Gate:
    if champion is None:
        return _above("min_over_champion", candidate, None, limit, sign, "there is no champion yet")
    if champion.get("metric_name") != candidate.metric:
        note = f"the champion was measured by {champion.get('metric_name')}, this version by {candidate.metric}"
        return Gate("min_over_champion", None, limit, holds=False, note=note)
    if not candidate.test_rows or champion.get("test_rows") != candidate.test_rows:
        note = f"the champion was measured on other test rows{': ' if champion.get(WHY_NOT) else ''}{champion.get(WHY_NOT, '')}"
        return Gate("min_over_champion", None, limit, holds=False, note=note)
    try:
        measured = float(champion["metric"])
    except (KeyError, ValueError):  # an alias that was set by hand, on a version of another program
        return Gate("min_over_champion", None, limit, holds=False, note="the champion's tag `metric` is no number")
    gate = _above("min_over_champion", candidate, measured, limit, sign, "")
    return replace(gate, note=f"{gate.note}, {champion[AGAIN]}") if AGAIN in champion else gate
