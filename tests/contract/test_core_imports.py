"""What trains needs no more than torch, transformers, peft, accelerate, numpy and pyarrow, and what those bring themselves."""

from __future__ import annotations

import subprocess
import sys

CORE = [
    "acclimate.data.tokens.packing",
    "acclimate.backbones.bert",
    "acclimate.backbones.loading",
    "acclimate.protocols",
    "acclimate.training.batches",
    "acclimate.training.heldout",
    "acclimate.training.loop",
    "acclimate.training.mixture",
    "acclimate.training.optimizers",
    "acclimate.training.orders",
    "acclimate.training.settings",
    "acclimate.training.step",
    "acclimate.training.streams",
]
FORBIDDEN = [
    *("datasets", "dvc", "great_expectations", "mlflow", "onnx", "onnxruntime", "pandas", "prefect", "pydantic", "ruamel"),
    "sklearn",
]


def test_the_core_imports_without_the_packages_of_the_pipeline() -> None:
    code = (
        "import importlib, importlib.abc, sys\n"
        "class Refuse(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.split('.')[0] in {FORBIDDEN!r}: raise ImportError('not in the core: ' + name)\n"
        "sys.meta_path.insert(0, Refuse())\n"
        f"for name in {CORE!r}: importlib.import_module(name)\n"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr[-2000:]
