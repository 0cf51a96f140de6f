"""Fetch package lists and packages from a Debian archive into a private cache.

apt is given its own list and cache directories, so the machine's own lists stay as they are and
nothing is installed. What is already in the cache is used again: delete the cache to refresh it.
"""

import hashlib
import logging
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from acclimate.errors import DataError

logger = logging.getLogger(__name__)

CODENAME = "bookworm"


@dataclass(frozen=True)
class Release:
    """What the archive's Release file says about itself: the version of the data."""

    suite: str
    codename: str
    version: str
    date: str


@dataclass(frozen=True)
class DebFile:
    """One downloaded binary package and where it was unpacked."""

    name: str
    version: str
    sha256: str
    root: Path


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def update_lists(cache: Path) -> None:
    """Download the package lists unless the cache has them.

    Raises:
        DataError: apt is missing or fails, or its sources have no Debian 12 main.
    """
    if list(cache.glob(f"lists/*_dists_{CODENAME}_InRelease")):
        return
    for directory in ("lists/partial", "cache/archives/partial"):
        (cache / directory).mkdir(parents=True, exist_ok=True)
    _run(["apt-get", "update", *_apt_options(cache)], cwd=cache)
    find_list(cache, "main_binary-*_Packages")


def find_list(cache: Path, ending: str) -> Path:
    """Path of the one downloaded list of the release whose name ends as given (a glob)."""
    found = sorted(cache.glob(f"lists/*_dists_{CODENAME}_{ending}"))
    if len(found) != 1:
        raise DataError(
            f"{cache / 'lists'}: {len(found)} lists match {CODENAME}_{ending}; expected 1 "
            f"(apt's sources must name Debian 12 {CODENAME} main, once)"
        )
    return found[0]


def read_release(cache: Path) -> Release:
    """Suite, version and date from the downloaded Release file."""
    head = find_list(cache, "InRelease").read_text(encoding="utf-8")[:4000]
    fields = dict(re.findall(r"^(Suite|Codename|Version|Date): (.+)$", head, flags=re.MULTILINE))
    return Release(fields["Suite"], fields["Codename"], fields["Version"], fields["Date"])


def fetch_packages(names: list[str], cache: Path) -> dict[str, DebFile]:
    """Download and unpack packages (no installation), skipping those in the cache."""
    debs, unpacked = cache.resolve() / "debs", cache.resolve() / "unpacked"
    debs.mkdir(parents=True, exist_ok=True)
    missing = [name for name in names if not list(debs.glob(f"{name}_*.deb"))]
    if missing:
        logger.info("downloading %s", " ".join(missing))
        _run(["apt-get", "download", *_apt_options(cache), *missing], cwd=debs)
    return {name: _unpack(name, debs, unpacked / name) for name in names}


def _unpack(name: str, debs: Path, root: Path) -> DebFile:
    found = sorted(debs.glob(f"{name}_*.deb"))
    if len(found) != 1:
        raise DataError(f"{debs}: {len(found)} files for package {name}; expected 1")
    if not root.exists():
        partial = root.with_name(f"{root.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        _run(["dpkg-deb", "-x", str(found[0]), str(partial)], cwd=debs)
        partial.rename(root)
    version = _run(["dpkg-deb", "-f", str(found[0]), "Version"], cwd=debs).strip()
    return DebFile(name, version, sha256_of(found[0]), root)


def _apt_options(cache: Path) -> list[str]:
    settings = {
        "Acquire::Languages": "en",
        "Acquire::GzipIndexes": "false",
        "Dir::State::Lists": str(cache.resolve() / "lists"),
        "Dir::Cache": str(cache.resolve() / "cache"),
    }
    return [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]


def _run(command: list[str], *, cwd: Path) -> str:
    if shutil.which(command[0]) is None:
        raise DataError(f"{command[0]} not found: the Debian snapshot can only be rebuilt on Debian or Ubuntu")
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise DataError(f"{' '.join(command[:2])} failed with status {done.returncode}: {reason}")
    return done.stdout
