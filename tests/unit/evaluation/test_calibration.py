from __future__ import annotations

import numpy as np
import pytest

from acclimate.evaluation.calibration import calibration_bins, expected_calibration_error


def test_confidence_equal_to_accuracy_has_no_error():
    logits = np.log([[0.75, 0.25]] * 4)
    bins = calibration_bins("classification", [0, 0, 0, 1], logits, num_bins=10)
    assert [(each.count, each.confidence, each.accuracy) for each in bins] == [(4, pytest.approx(0.75), 0.75)]
    assert expected_calibration_error(bins) == pytest.approx(0.0)


def test_a_sure_and_always_wrong_model_has_error_one():
    bins = calibration_bins("classification", [1, 1], [[100.0, 0.0], [100.0, 0.0]], num_bins=10)
    assert expected_calibration_error(bins) == pytest.approx(1.0)


def test_multi_label_counts_every_label_of_every_row():
    bins = calibration_bins("multi_label", [[1, 0, 0], [1, 1, 0]], [[3.0, -3.0, 0.1], [2.5, -800.0, 800.0]], num_bins=5)
    assert sum(each.count for each in bins) == 6
    assert all(each.lower <= each.confidence <= each.upper for each in bins)


def test_kinds_without_probabilities_have_no_bins():
    assert calibration_bins("regression", [0.5], [[0.5]], num_bins=10) == []
