"""An export is judged in the unit that the model learnt, whatever the labels' unit is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acclimate.errors import ModelError
from acclimate.export.parity import Scale, compare, require_parity
from acclimate.export.predictor import Decoder, load_decoder
from acclimate.kinds import decode_file


def decoder() -> Decoder:
    found: Any = load_decoder(Path(decode_file("regression")))
    made: Decoder = found({"labels": None, "pair": False}, None)
    return made


@settings(max_examples=200, deadline=None)
@given(
    shift=st.one_of(st.just(0.0), st.floats(-2e9, 2e9)),
    scale=st.floats(1e-3, 1e7),
    standardized=st.lists(st.floats(-3, 3), min_size=1, max_size=5),
)
def test_what_float32_rounds_is_no_difference_and_what_a_model_computes_otherwise_is(
    shift: float, scale: float, standardized: list[float]
) -> None:
    """Prices of 1e6, times of 1.7e9, years of 2,000: two runtimes whose last bits differ agree, and one that is off by 1 % does not."""
    exact = np.array(standardized) * scale + shift
    spacing = np.spacing(np.float32(np.abs(exact).max()))
    left = [np.array([value], dtype=np.float32) for value in exact]
    right = [np.array([value + spacing], dtype=np.float32) for value in exact]
    ids = [str(row) for row in range(len(exact))]
    unit = Scale(shift, scale)
    parity = compare(left, right, ids, decoder(), unit)
    assert parity.max_logit_difference <= 1e-5
    require_parity(compare(left, left, ids, decoder(), unit), limit=1e-9, what="the same")
    off = [value + np.float32(0.01 * scale + 8 * spacing) for value in left]
    with pytest.raises(ModelError, match=r"logits differ from torch's by 0\.\d+|logits differ from torch's by \d"):
        require_parity(compare(left, off, ids, decoder(), unit), limit=1e-3, what="another")


def test_without_a_scale_the_difference_is_that_of_the_logits() -> None:
    left, right = [np.array([1.0], dtype=np.float32)], [np.array([1.5], dtype=np.float32)]
    assert compare(left, right, ["a"], decoder()).max_logit_difference == 0.5
    assert compare(left, right, ["a"], decoder(), Scale(0.0, 5.0)).max_logit_difference == 0.1
