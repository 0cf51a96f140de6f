"""Checkpoints that no run goes on from are removed; any that may be gone on from stay."""

from __future__ import annotations

import os
import time
from pathlib import Path

from acclimate import locks
from acclimate.leftovers import MAX_AGE_DAYS, collect, directory_of, lock_of

ONE, OTHER = "0123456789abcdef", "fedcba9876543210"
STAGE = "finetune-section-base-full-0"


def checkpoint(directory: Path, name: str, *, age_days: float = 0.0) -> Path:
    path = directory / name
    path.mkdir(parents=True)
    (path / "step-1.pt").write_text("x")
    for each in (path / "step-1.pt", path):
        os.utime(each, (time.time() - 86_400 * age_days,) * 2)
    return path


def test_a_finished_stage_leaves_none_of_its_own(tmp_path: Path) -> None:
    directory = directory_of(tmp_path, None)
    of_other_code = checkpoint(directory, f"{STAGE}-{OTHER}")
    of_another_seed = checkpoint(directory, f"finetune-section-base-full-01-{ONE}")
    of_a_longer_name = checkpoint(directory, f"{STAGE}-more-{ONE}")
    assert collect(directory, STAGE) == [of_other_code]
    assert of_another_seed.exists() and of_a_longer_name.exists()


def test_a_checkpoint_that_a_process_holds_stays(tmp_path: Path) -> None:
    directory = directory_of(tmp_path, None)
    path = checkpoint(directory, f"{STAGE}-{OTHER}", age_days=MAX_AGE_DAYS + 1)
    with locks.held(lock_of(path), "the test"):
        assert collect(directory, STAGE) == []
    assert collect(directory, STAGE) == [path]


def test_a_flow_run_with_params_of_its_own_and_the_checkout_leave_each_other_alone(tmp_path: Path) -> None:
    main, trial = directory_of(tmp_path, None), directory_of(tmp_path, "run-1")
    of_main, of_trial = checkpoint(main, f"{STAGE}-{ONE}"), checkpoint(trial, f"{STAGE}-{OTHER}")
    assert collect(trial, STAGE) == [of_trial]
    assert not trial.exists(), "an empty directory of a flow run goes too"
    of_trial = checkpoint(trial, f"{STAGE}-{OTHER}")
    assert collect(main, STAGE) == [of_main]
    assert of_trial.exists()


def test_what_nobody_wrote_to_for_days_goes_whatever_finishes(tmp_path: Path) -> None:
    main = directory_of(tmp_path, None)
    old = checkpoint(main, f"pretrain-mlm-{ONE}", age_days=MAX_AGE_DAYS + 1)
    old_of_trial = checkpoint(directory_of(tmp_path, "run-1"), f"{STAGE}-{ONE}", age_days=MAX_AGE_DAYS + 1)
    young = checkpoint(main, f"pretrain-other-{ONE}", age_days=MAX_AGE_DAYS - 1)
    assert sorted(collect(main, "ingest")) == sorted([old, old_of_trial])
    assert young.exists()


def test_without_any_checkpoint_there_is_nothing_to_do(tmp_path: Path) -> None:
    assert collect(directory_of(tmp_path, None), STAGE) == []
