"""An expectation that does not hold says what was found, what is allowed, and the key that sets it."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from acclimate.adapters.great_expectations import Check, Finding, Suite, run_suites

TABLE = pd.DataFrame(
    {"id": ["a", "b", "c"], "tokens": [1, 5, 2], "rows_test": [3, 3, 3], "label": ["x", "y", "x"], "text": ["t", None, "t"]}
)
CHECKS = [
    Check("ExpectColumnValuesToBeBetween", {"column": "tokens", "min_value": 3, "mostly": 0.9}, "validate.min_tokens"),
    Check("ExpectColumnMinToBeBetween", {"column": "rows_test", "min_value": 8}, "validate.min_rows_per_split"),
    Check("ExpectColumnMaxToBeBetween", {"column": "rows_test", "max_value": 0.25}, "validate.max_drift"),
    Check("ExpectColumnValuesToBeInSet", {"column": "label", "value_set": ["x"]}),
    Check("ExpectColumnValuesToBeUnique", {"column": "label", "mostly": 0.99}, "validate.max_duplicate_share"),
    Check("ExpectColumnValuesToNotBeNull", {"column": "text"}),
    Check("ExpectColumnValuesToNotMatchRegex", {"column": "text", "regex": "t$"}),
    Check("ExpectTableRowCountToBeBetween", {"min_value": 4}),
]


@pytest.fixture(scope="module")
def findings(tmp_path_factory: pytest.TempPathFactory) -> list[Finding]:
    with warnings.catch_warnings():  # of Great Expectations, at its first import
        warnings.simplefilter("ignore")
        import great_expectations  # noqa: F401
    docs: Path = tmp_path_factory.mktemp("docs")
    return run_suites([Suite("tables.t", TABLE, CHECKS)], docs)


def test_every_failure_says_limit_and_key(findings: list[Finding]) -> None:
    assert not any(finding.success for finding in findings)
    assert sorted(finding.describe() for finding in findings) == sorted(
        [
            "tables.t.tokens: 2 rows at fault, ids a, c; allowed: at least 3 in 0.9 of the rows, set by validate.min_tokens",
            "tables.t.rows_test: found 3; allowed: at least 8, set by validate.min_rows_per_split",
            "tables.t.rows_test: found 3; allowed: at most 0.25, set by validate.max_drift",
            "tables.t.label: 1 rows at fault, ids b; allowed: x",
            "tables.t.label: 2 rows at fault, ids a, c; allowed: each value once in 0.99 of the rows, set by validate.max_duplicate_share",
            "tables.t.text: 1 rows at fault, ids b; allowed: no empty cell",
            "tables.t.text: 2 rows at fault, ids a, c; allowed: nothing that matches 't$'",
            "tables.t: found 3; allowed: at least 4",
        ]
    )


@pytest.mark.parametrize(("arguments", "limit"), [({"value_set": list(range(12))}, "0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more")])
def test_a_long_list_of_values_is_cut(arguments: dict[str, Any], limit: str) -> None:
    assert Check("ExpectColumnValuesToBeInSet", arguments).limit() == limit
