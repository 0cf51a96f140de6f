"""Was adapting worth it: one answer for each adapted encoder, from the ledger's declared comparisons, and what it cost."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from acclimate.report.facts import Facts, Json

LINES_ON_A_CARD = 4


@dataclass(frozen=True)
class Answer:
    """What the declared comparisons say of one adapted encoder."""

    encoder: str
    short: str
    tone: str
    """Of its badge: good, bad or plain."""
    text: str
    gains: list[Json]
    """Declared pairs with the reference, on the tasks of the domain."""
    over_controls: list[Json]
    """Declared pairs with trained controls, on the same tasks."""
    forgetting: list[Json]
    """Declared pairs with the reference, on general tasks."""

    def over_control(self, task: str, rows: Any) -> Json | None:
        """The pair with the first control at the same task and number of rows."""
        return next((pair for pair in self.over_controls if (pair["task"], pair["rows"]) == (task, rows)), None)


@dataclass(frozen=True)
class Part:
    """A share of the run's time."""

    name: str
    seconds: float
    stages: int
    joules: float | None
    price: float | None


def answers(facts: Facts) -> list[Answer]:
    """One for each fine-tuned encoder that is neither the reference's nor a control; empty without a ledger."""
    others = (facts.runs.reference.encoder, *facts.ledger.get("controls", []))
    adapted = [name for name in facts.runs.encoders if name not in others]
    found = [_answer(facts, name) for name in adapted]
    return [answer for answer in found if answer.gains]


def _pairs(facts: Facts, encoder: str, *, general: bool) -> list[Json]:
    tasks = facts.ledger.get("tasks", {})
    return [
        {"task": task, "metric": each["metric"], **pair}
        for task, each in tasks.items()
        if bool(each["general"]) == general
        for pair in each["pairs"]
        if pair["encoder"] == encoder
    ]


def _answer(facts: Facts, encoder: str) -> Answer:
    reference = facts.ledger.get("reference")
    domain, general = _pairs(facts, encoder, general=False), _pairs(facts, encoder, general=True)
    gains = [pair for pair in domain if pair["against"] == reference]
    over_controls = [pair for pair in domain if pair["against"] != reference]
    short, tone, text = _words(gains, over_controls)
    return Answer(encoder, short, tone, text, gains, over_controls, [pair for pair in general if pair["against"] == reference])


def _words(gains: Sequence[Json], over_controls: Sequence[Json]) -> tuple[str, str, str]:
    """Badge, its tone and a sentence."""
    said, over = _verdicts(gains), _verdicts(over_controls)
    if not said:
        return "not measured", "plain", "No comparison could be made."
    if said >= {"better", "worse"}:
        return "Mixed", "plain", "Adapting helps at some sizes and harms at others."
    if "worse" in said:
        return "No, it harms", "bad", "The adapted encoder is worse."
    if "better" in said:
        return _words_of_a_gain(over)
    if said == {"equivalent"}:
        return "No difference that matters", "plain", f"Both encoders are equal within {gains[0]['margin']:g}."
    return "Not shown", "plain", "The comparison is inconclusive."


def _words_of_a_gain(over: set[str]) -> tuple[str, str, str]:
    """As `_words`, by what the comparison with controls says."""
    if not over:
        return "Yes", "good", "No control was trained on other text, so the gain may come from more training as such."
    if over == {"better"}:
        return "Yes", "good", "The gain over the same training on other text is shown as well: it comes from the text of the domain."
    if "better" in over and "worse" not in over:
        return "Yes", "good", "A gain over the same training on other text is shown at some sizes only."
    return "Yes, but not by the text", "plain", "The same training on other text gains as much, as far as is shown."


def _verdicts(pairs: Iterable[Json]) -> set[str]:
    return {pair["verdict"] for pair in pairs}


def mean_score(facts: Facts, task: str, encoder: str, rows: Any) -> float | None:
    """Mean over the draws of the declared probe on the last layer; None where it is missing."""
    points = _points(facts, task, encoder)
    return next((point["mean"] for point in points if point["rows"] == rows), None)


def _points(facts: Facts, task: str, encoder: str) -> list[Json]:
    """The declared probe on the last layer, in the order of the rows."""
    points = [point for point in facts.curves.get(task, {}).get("points", []) if point["encoder"] == encoder]
    last = max((point["layer"] for point in points), default=0)
    probe = facts.ledger["declared"]["probe"]
    return [point for point in points if point["layer"] == last and point["probe"] == probe]


def curve(facts: Facts, task: str) -> dict[str, list[tuple[float, float]]]:
    """For each encoder (labelled rows, mean score); `all` is the pool's number of rows."""
    found = facts.curves[task]
    encoders = list(dict.fromkeys(point["encoder"] for point in found["points"]))
    rows_of = {"all": float(found["pool_rows"])}
    return {
        encoder: [(rows_of.get(point["rows"], 0.0) or float(point["rows"]), point["mean"]) for point in _points(facts, task, encoder)]
        for encoder in encoders
    }


def over_tokens(facts: Facts, task: str) -> dict[str, list[tuple[float, float]]]:
    """For each declared number of rows (tokens trained on, mean score), over encoders that continue each other; at least three points."""
    found = {}
    for rows in facts.ledger["declared"]["rows"]:
        points = [
            (float(facts.curves[task]["tokens"][name]), score)
            for name in _longest_chain(facts)
            if (score := mean_score(facts, task, name, rows)) is not None
        ]
        if len(points) > 2:
            found[f"{rows} labelled rows"] = points
    return found


def _longest_chain(facts: Facts) -> list[str]:
    """Encoders of which each starts from the one before; the longest such list."""
    starts = {each.encoder: each.start for each in facts.pretraining}
    chains = []
    for name in starts:
        chain = [name]
        while chain[-1] in starts:
            chain.append(starts[chain[-1]])
        chains.append(chain[::-1])
    return max(chains, key=len, default=[])


def parts(facts: Facts) -> list[Part]:
    """What the time of the run went into; a stage belongs to one part."""
    controls = set(facts.ledger.get("controls", []))
    by_part: dict[str, list[Json]] = {"adapting": [], "fine-tuning": [], "evidence": [], "data, export and the rest": []}
    for record in facts.records:
        by_part[_part_of(record["stage"], controls)].append(record)
    return [_part(name, records) for name, records in by_part.items() if records]


def _part_of(stage: str, controls: set[str]) -> str:
    name, _, instance = stage.partition("@")
    if name in ("pretrain", "retain"):
        return "evidence" if instance in controls else "adapting"
    if name in ("probe", "evaluate"):
        return "evidence"
    return "fine-tuning" if name.startswith("finetune") else "data, export and the rest"


def _part(name: str, records: Sequence[Json]) -> Part:
    seconds = sum(record["wall_s"] for record in records)
    joules = [record["joules"] for record in records if record.get("joules") is not None]
    prices = [record["price"] for record in records if record.get("price") is not None]
    return Part(name, seconds, len(records), sum(joules) if joules else None, sum(prices) if len(prices) == len(records) else None)


def cost_note(all_parts: Sequence[Part]) -> str:
    """Why a column is empty."""
    missing = []
    if all(part.joules is None for part in all_parts):
        missing.append("Energy is missing: no energy counter was found on the device.")
    if all(part.price is None for part in all_parts):
        missing.append("The price is missing: set train.price_per_hour.")
    return " ".join(missing)
