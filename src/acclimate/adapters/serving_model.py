"""The registered model: raw text in, a table of predictions out. Logged as code, so it is run where the model is loaded.

Imports nothing of acclimate: `predictor.py` travels beside it inside the model, and the decoder of the kind of task beside the graph.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel


class TextModel(PythonModel):
    """An exported ONNX graph with its tokenizer."""

    # The signature speaks for the input. MLflow would warn, at each loading, that `predict` has no type hints of its own dialect.
    _skip_type_hint_validation = True

    def load_context(self, context: Any) -> None:
        """Open the graph. MLflow passes the argument by its name, so it must be `context`."""
        from predictor import Predictor  # type: ignore[import-not-found]

        self._predictor = Predictor.load(Path(context.artifacts["export"]), variant=context.model_config["variant"])
        self._answer = context.model_config.get("answer")
        keys = self._predictor.decoder.outputs
        if self._answer is not None and self._answer not in keys:
            raise mlflow.MlflowException.invalid_parameter_value(f"answer is {self._answer!r}; this model's answers hold {', '.join(keys)}")

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        """Predict for a list of texts, a Series, dictionaries or a DataFrame with the task's inputs: `text`, for pairs `text_pair` too.

        Returns:
            A DataFrame with the index of the input, one row an example; its columns are the keys of the kind's answer, such as `label` or
            `spans`. Where the model was loaded with `model_config={"answer": "label"}`, that column alone, a Series.
        """
        import pandas as pd

        given = model_input.to_frame(0) if isinstance(model_input, pd.Series) else model_input
        frame = given if isinstance(given, pd.DataFrame) else pd.DataFrame(given)
        inputs = self._predictor.decoder.inputs
        first = inputs[0] if inputs[0] in frame.columns else 0
        if first == 0 and list(frame.columns) != [0]:
            raise mlflow.MlflowException.invalid_parameter_value(
                f"the first column is {frame.columns[0]!r}; give a list of texts, or a DataFrame whose first column is `{inputs[0]}`"
            )
        columns = [frame[first].tolist(), *(frame[name].tolist() for name in inputs[1:] if name in frame.columns)]
        try:
            answers = pd.DataFrame(self._predictor.predict(*columns), index=frame.index)
            return answers if self._answer is None else answers[self._answer]
        except ValueError as error:  # PredictorError: the caller's input; the server answers 400
            raise mlflow.MlflowException.invalid_parameter_value(str(error)) from None


set_model(TextModel())
