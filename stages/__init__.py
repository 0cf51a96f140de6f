"""DVC stages: one module, one command; each reads, calls the library and writes."""

import importlib.util
import os
import signal
import sys
from types import FrameType, TracebackType

# Read when torch is imported, so it is set here, before any stage's imports: threads that wait for each other sleep rather than
# spin. Beside two other busy processes a training step ran 1.5 times as fast so, on quiet cores 3 % slower; the bits are the same.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

if importlib.util.find_spec("acclimate") is None or importlib.util.find_spec("pyarrow") is None:
    sys.exit(f"stages: {sys.executable} has no acclimate; run `source .venv/bin/activate` first (`make run` makes it)")


def _tell(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Ctrl-C during the seconds of imports, before a stage handles it, is one line too."""
    if issubclass(kind, KeyboardInterrupt):
        print("stopped before the stage began; the next run does it", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


sys.excepthook = _tell


def _leave(_number: int, _frame: FrameType | None) -> None:
    """SIGTERM during those seconds: nothing has begun."""
    os.write(2, b"stopped before the stage began; the next run does it\n")
    os._exit(75)


if sys.argv[0] == "-m":  # `python -m stages.pretrain`: Python imports this package first
    signal.signal(signal.SIGTERM, _leave)
