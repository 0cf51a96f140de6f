"""A plan as lines: the table of what fits, the refusals of what does not."""

from __future__ import annotations

from typing import Any

import pytest

from flows.plan import refusals, render


def stage(**changed: Any) -> dict[str, Any]:
    parts = {"start and end": 12.0, "steps": 48.0}
    found = {
        "fits": True,
        "needed_mb": 900.0,
        "limit_mb": 2000.0,
        "rows": 32,
        "fitting_rows": 32,
        "steps": 96,
        "step_s": 0.5,
        "wall_s": 60.0,
    }
    found |= {"device": "cpu", "threads": 2, "processes": 1, "parts_s": parts, "remedies": [], "name": "finetune section"}
    return {**found, "instances": ["finetune@section-base-full-0", "finetune@section-mlm-full-0"], **changed}


@pytest.mark.parametrize(("price", "cost"), [(None, []), (36.0, ["1.20"])])
def test_the_table_multiplies_by_runs_and_names_the_cost_where_there_is_a_price(price: float | None, cost: list[str]) -> None:
    lines = render([stage(), stage(fits=False)], price)
    assert lines[0].split()[-1:] == (["cost"] if price else ["MB"])
    assert lines[1].split()[2:] == ["2", "96", "0.5", "0:01:00", "0:02:00", "900", *cost]
    assert lines[2].split() == ["all", "training", "2", "0:02:00", *cost]
    assert lines[3:] == ["finetune section, seconds on cpu, threads 2, processes 1: start and end 12.0, steps 48.0"]
    assert "8 of 32 rows are computed at once" in render([stage(fitting_rows=8)], price)[-1]
    assert render([stage(fits=False)], price) == []


def test_a_refusal_names_need_limit_and_remedies() -> None:
    tight = stage(fits=False, needed_mb=5300.4, processes=2, remedies=["train.micro_batch_size: 8", "train.activation_checkpointing: true"])
    needs = "finetune section: needs 5,300 MB a process with 32 rows at once, has 2,000 MB; would fit: "
    assert refusals([stage(), tight]) == [needs + "train.micro_batch_size: 8; or train.activation_checkpointing: true"]
    assert "no setting that was tried" in refusals([stage(fits=False)])[0]
