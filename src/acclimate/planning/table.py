"""A plan as lines for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from acclimate.planning.planner import Plan, PlannedStage
from acclimate.report.wording import count, duration

_HEAD = ("stage", "runs", "steps", "s/step", "time each", "time", "memory MB", "cost")


def render(plan: Plan) -> list[str]:
    """The table, where each stage's time goes, and what the trial read that the stages will not."""
    stages = [stage for stage in plan.stages if stage.fits]
    rows = [_row(stage, plan.price_per_hour) for stage in stages]
    total_s = sum(stage.wall_s for stage in stages)
    if rows:
        runs = str(sum(len(stage.instances) for stage in stages))
        rows.append(["all training", runs, "", "", "", duration(total_s), "", _cost(total_s, plan.price_per_hour)])
    head = _HEAD if plan.price_per_hour else _HEAD[:-1]
    lines = _aligned([list(head), *(row[: len(head)] for row in rows)]) if rows else []
    for stage in stages:
        parts = ", ".join(f"{name} {seconds:.1f}" for name, seconds in stage.estimate.parts.items())
        lines.append(f"{stage.name}, seconds: {parts}")
        if stage.estimate.micro_rows:
            lines.append(
                f"{stage.name}: {stage.estimate.micro_rows} of {stage.estimate.memory.rows} rows are computed at once (micro_rows)"
            )
    if stages:
        first = stages[0].estimate
        lines.append(f"on {first.device}, {first.threads} threads, {first.processes} process{'es' if first.processes > 1 else ''}")
    return lines + [f"tried {note}" for note in plan.notes]


def refusals(plan: Plan) -> list[str]:
    """A line for each stage that does not fit: what it needs, what there is, what would fit."""
    return [_refusal(stage, plan.limit_from) for stage in plan.stages if not stage.fits]


def _refusal(stage: PlannedStage, limit_from: str) -> str:
    memory = stage.estimate.memory
    nothing = "no setting that was tried; take a smaller model or more memory"
    if memory.weights_mb > memory.limit_mb:
        nothing = "no setting, since weights, gradients and the optimizer's state alone do not; take a smaller model or more memory"
    fit = "; or ".join(stage.remedies) or nothing
    each = f"each of {stage.estimate.processes} processes needs" if stage.estimate.processes > 1 else "needs"
    return (
        f"{stage.name}: {each} {count(memory.needed_mb)} MB with {memory.rows} rows at once, {count(memory.limit_mb)} MB are {limit_from}; "
        f"would fit: {fit}"
    )


def _row(stage: PlannedStage, price_per_hour: float | None) -> list[str]:
    estimate = stage.estimate
    return [
        stage.name,
        str(len(stage.instances)),
        count(estimate.steps),
        f"{estimate.step_s:.3g}",
        duration(estimate.wall_s),
        duration(stage.wall_s),
        count(estimate.memory.needed_mb),
        _cost(stage.wall_s, price_per_hour),
    ]


def _cost(seconds: float, price_per_hour: float | None) -> str:
    return f"{seconds / 3600 * price_per_hour:.2f}" if price_per_hour else ""


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns of equal width; all but the first to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows]
