"""The digests that dvc.lock and .dvc files record of the outs, against the files that a stage is given.

DVC does not read again what it restores from its cache: one flipped byte there is restored, called up to date and would be used.
"""

from __future__ import annotations

import configparser
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from acclimate.artifacts import digest_of, file_md5
from acclimate.errors import ConfigError

_LOCK = Path("dvc.lock")


@dataclass(frozen=True)
class Out:
    """What was recorded of an out."""

    path: PurePosixPath
    md5: str
    file: str
    """`dvc.lock`, or the .dvc file."""
    stage: str | None
    """That makes it; None where it was imported or added."""


def problems(files_by_dep: dict[Path, dict[str, str]]) -> list[str]:
    """One line for each out that is not what was recorded, with the command that brings it back.

    Args:
        files_by_dep: the md5 of each file of a dep, by its path below the dep; `""` where the dep is a file.
    """
    found: dict[PurePosixPath, str] = {}
    for out in recorded_outs(files_by_dep):
        for dep, files in files_by_dep.items():
            if out.path not in found and (differing := _differing(out, PurePosixPath(dep.as_posix()), files)) is not None:
                found[out.path] = _describe(out, differing)
    return list(found.values())


def recorded_outs(deps: Iterable[Path]) -> Iterator[Out]:
    """The outs of dvc.lock, and of the .dvc files beside, above and below the deps."""
    if _LOCK.exists():
        for name, stage in (_read(_LOCK).get("stages") or {}).items():
            yield from _outs(stage, PurePosixPath(), _LOCK.name, name)
    pointers = {Path(f"{place}.dvc") for dep in deps for place in (dep, *dep.parents)}
    pointers |= {path for dep in deps if dep.is_dir() for path in dep.rglob("*.dvc")}
    for path in sorted(path for path in pointers if path.is_file()):
        yield from _outs(_read(path), PurePosixPath(path.parent.as_posix()), path.as_posix(), None)


def _read(path: Path) -> dict[str, Any]:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:  # by the parser in C: of the default run's dvc.lock 0.04 s, not 0.25 s
        return YAML(typ="safe").load(path.read_text(encoding="utf-8")) or {}
    except YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None


def _outs(content: dict[str, Any], directory: PurePosixPath, file: str, stage: str | None) -> Iterator[Out]:
    for out in content.get("outs") or []:
        if out.get("md5") and out.get("hash") == "md5":
            yield Out(directory / out["path"], out["md5"], file, stage)


def _differing(out: Out, dep: PurePosixPath, files: dict[str, str]) -> dict[PurePosixPath, str] | None:
    """Recorded md5 of each file that is another one now, `""` for one too many; None where all agrees or cannot be told."""
    if out.path.is_relative_to(dep):
        inside = {
            (dep / name).relative_to(out.path).as_posix(): md5 for name, md5 in files.items() if (dep / name).is_relative_to(out.path)
        }
        inside = {"" if name == "." else name: md5 for name, md5 in inside.items()}
        if not inside or (inside.get("") or digest_of(inside)) == out.md5:
            return None  # an out that is not there is DVC's to report
        wanted = _members(out)
    elif dep.is_relative_to(out.path):
        place = dep.relative_to(out.path)
        inside = {(place / name).as_posix(): md5 for name, md5 in files.items()}
        wanted = {name: md5 for name, md5 in _members(out).items() if PurePosixPath(name).is_relative_to(place)}
        if not wanted or wanted == inside:
            return None
    else:
        return None
    return {out.path / name: wanted.get(name, "") for name in {*wanted, *inside} if wanted.get(name) != inside.get(name)}


def _members(out: Out) -> dict[str, str]:
    """Recorded md5 of each file of an out; nothing where DVC's cache does not hold the list."""
    if not out.md5.endswith(".dir"):
        return {"": out.md5}
    try:
        return {entry["relpath"]: entry["md5"] for entry in json.loads(_cached(out.md5).read_text(encoding="utf-8"))}
    except (OSError, ValueError):
        return {}


def _describe(out: Out, differing: dict[PurePosixPath, str]) -> str:
    first = min(differing)
    more = f" and {len(differing) - 1} more" if len(differing) > 1 else ""
    cached = {_cached(md5): md5.removesuffix(".dir") for md5 in {out.md5, *differing.values()} - {""}}
    damaged = [path for path, md5 in cached.items() if path.is_file() and file_md5(path) != md5]
    remove = f"rm -rf {out.path}"
    if not damaged and all(path.is_file() for path in cached):
        cure = f"; `{remove} && dvc checkout {out.path}` brings it back"
    else:
        remove = " ".join([remove, *sorted({path.as_posix() for path in damaged})])
        again = f"dvc repro --force --single-item {out.stage}" if out.stage else f"dvc pull {out.path}` or `dvc update {out.file}"
        cure = f", and DVC's cache holds {'no better copy' if damaged else 'no copy'}; `{remove}`, then `{again}`"
    return f"{first}{more} is not what {out.file} records{f' of {out.stage}' if out.stage else ''}{cure}"


def _cached(md5: str) -> Path:
    """Where DVC keeps a file of this digest."""
    directory = Path(".dvc")
    config = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        config.read([directory / "config", directory / "config.local"], encoding="utf-8")
    except configparser.Error:
        config.clear()
    cache = directory / config.get("cache", "dir", fallback="cache").strip("\"'")
    return cache / "files" / "md5" / md5[:2] / md5[2:]
