"""A registered model, measured again on the test rows of today: a metric of other rows says nothing beside today's."""

from __future__ import annotations

import tempfile
from pathlib import Path

from acclimate import artifacts, kinds
from acclimate.errors import DataError, ModelError
from acclimate.evaluation.metrics import score
from acclimate.export.predictor import Predictor
from acclimate.export.reference import digest_of_rows, read_examples


def scores_on(model_uri: str, table: Path, *, test_rows: str) -> dict[str, float]:
    """Every metric of a registered model on a table's test split.

    Args:
        test_rows: digest of the rows that are meant.

    Raises:
        DataError: the table holds other rows by now.
        ModelError: the model cannot be loaded here, is of another kind or knows other labels.
    """
    schema, examples = artifacts.read_json(table / "schema.json"), read_examples(table)
    if digest_of_rows(examples) != test_rows:
        raise DataError(f"{table / 'test.parquet'}: its rows are not those that the new version was measured on")
    predictor = _predictor(model_uri)
    kind, labels = schema["kind"], predictor.task["labels"]
    if predictor.task["kind"] != kind or set(labels or ()) != set(schema["labels"] or ()):
        raise ModelError(f"{model_uri}: its kind or its labels are not those of {table / 'schema.json'}")
    rows = predictor.decoder.read_table(examples)
    predictions = predictor.decoder.predictions(rows, predictor.logits(rows.encodings))
    gold = kinds.model(kind).gold([example["label"] for example in examples], labels)
    return score(kind, gold, predictions, labels=labels)


def _predictor(model_uri: str) -> Predictor:
    import mlflow

    with tempfile.TemporaryDirectory() as directory:
        try:
            model = Path(mlflow.artifacts.download_artifacts(artifact_uri=model_uri, dst_path=directory))
            flavor = mlflow.models.Model.load(str(model)).flavors["python_function"]
            export = model / flavor["artifacts"]["export"]["path"]
            return Predictor.load(export, variant=flavor["config"]["variant"])
        except Exception as error:  # noqa: BLE001 - it may be of any release, or of another program altogether
            raise ModelError(f"{model_uri}: cannot be loaded here: {type(error).__name__}: {error}") from None
