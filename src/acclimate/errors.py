"""Errors that a user can act on. Each message says where, what was wrong and what is allowed."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class AcclimateError(Exception):
    """Base of every error that is the input's or the environment's fault, not ours."""


class ConfigError(AcclimateError):
    """params.yaml or a command line is wrong."""


class DataError(AcclimateError):
    """A file or a table is wrong."""


class ModelError(AcclimateError):
    """A model is missing, changed or unfit for what was asked of it."""


class TrainingError(AcclimateError):
    """Training cannot go on: the loss is not finite, a checkpoint does not fit, and the like."""


class EnvironmentUnfitError(AcclimateError):
    """The machine lacks something: disk, a driver, a program, a service."""


class DoesNotFitError(AcclimateError):
    """A trial stopped before a step that needs more memory than there is."""


class GateError(AcclimateError):
    """A gate of params.yaml does not hold where the caller asked for it to hold."""


class LostProcessError(AcclimateError):
    """Another process of this run ended; it or its launcher says why."""


def one_line(message: object, *, max_chars: int = 2000) -> str:
    """A message whose parts come from a file: control characters and line ends escaped, overlong text cut."""
    text = str(message)
    text = text if len(text) <= max_chars else text[:max_chars] + "…"
    return text if text.isprintable() else "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


_AGAIN = "and run the same command again"
_CURES = {
    errno.ENOSPC: f"make room {_AGAIN}",
    errno.EDQUOT: f"make room {_AGAIN}",
    errno.EFBIG: f"raise the limit on a file's size (`ulimit -f`) {_AGAIN}",
    errno.EROFS: f"make it writable or move the project, {_AGAIN}",
    errno.EACCES: f"give this user access to it {_AGAIN}",
}
_OTHER_WORDS = {" requested and ": errno.ENOSPC, "database or disk is full": errno.ENOSPC, "readonly database": errno.EROFS}
"""What NumPy (of a write that came out short) and SQLite say in place of the system's words."""


def disk_fault(error: BaseException) -> OSError | None:
    """The full, limited or read-only disk behind an error, or None where that is not the cause.

    Few libraries pass the system's error on: torch complains that its file stands at another byte, safetensors and tokenizers
    raise errors of their own with the system's words in them, NumPy loses the number. So causes and contexts are searched too.
    """
    seen: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        found = waiting.pop()
        if found is None or found in seen:
            continue
        seen.append(found)
        waiting += [found.__context__, found.__cause__]
        code, paths = _code(found), [getattr(found, name, None) for name in ("filename2", "filename")]
        path = next((path for path in paths if isinstance(path, str | os.PathLike)), None)
        if code is not None and (code != errno.EACCES or path is not None):  # without a path it is a socket's or a process's
            return OSError(code, os.strerror(code), path)
    return None


def _code(error: BaseException) -> int | None:
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno if error.errno in _CURES else None
    words = {os.strerror(code): code for code in _CURES if code != errno.EACCES} | _OTHER_WORDS
    return next((code for phrase, code in words.items() if phrase in str(error)), None)


@contextmanager
def disk_faults_named() -> Iterator[None]:
    """Turn whatever a library raises for a full or read-only disk into one line.

    Raises:
        EnvironmentUnfitError: the file, or the project's directory where the system does not name a file, and what to do.
    """
    try:
        yield
    except AcclimateError:
        raise
    except Exception as error:
        fault = disk_fault(error)
        if fault is None:
            raise
        assert fault.strerror is not None
        where = fault.filename or Path.cwd()
        raise EnvironmentUnfitError(f"{where}: {fault.strerror.lower()}; {_CURES[fault.errno or 0]}") from None
