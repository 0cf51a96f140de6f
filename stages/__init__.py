"""DVC stages: one module, one command; each reads, calls the library and writes."""

import importlib.util
import sys
from types import TracebackType

if importlib.util.find_spec("acclimate") is None or importlib.util.find_spec("pyarrow") is None:
    sys.exit(f"stages: {sys.executable} has no acclimate; run `source .venv/bin/activate` first (`make run` makes it)")


def _tell(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Ctrl-C during the seconds of imports, before a stage handles it, is one line too."""
    if issubclass(kind, KeyboardInterrupt):
        print("stopped before the stage began; the next run does it", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


sys.excepthook = _tell
