"""DVC stages: one module, one command; each reads, calls the library and writes."""

import importlib.util
import sys

if importlib.util.find_spec("acclimate") is None or importlib.util.find_spec("pyarrow") is None:
    sys.exit(f"stages: {sys.executable} has no acclimate; run `source .venv/bin/activate` first (`make run` makes it)")
