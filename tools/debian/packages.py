"""Debian package lists: parse deb822 stanzas, join synopses, descriptions, tags and dependencies.

Format: https://www.debian.org/doc/debian-policy/ch-controlfields.html, section 5.1 and 5.6.13.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

Split = Literal["train", "dev", "test"]

BULLET = re.compile(r"[-*+o•·] ")


@dataclass(frozen=True)
class Package:
    """One binary package with its English description."""

    name: str
    source: str
    section: str
    synopsis: str
    paragraphs: tuple[str, ...]
    tags: tuple[str, ...]
    depends: tuple[str, ...]

    @property
    def text(self) -> str:
        """Synopsis, newline, description."""
        return "\n".join((self.synopsis, *self.paragraphs))


def split_of(group: str) -> Split:
    """Stable 80/10/10 split by name of the source package or man page."""
    share = int.from_bytes(hashlib.sha256(group.encode()).digest()[:8], "big") / 2**64
    return "train" if share < 0.8 else "dev" if share < 0.9 else "test"


def stable_order(key: str) -> bytes:
    """Sort key that shuffles names the same way everywhere."""
    return hashlib.sha256(f"order:{key}".encode()).digest()


def normalise(text: str) -> str:
    """Comparison key: lower case, digits to 0, one space. Versions of one package become equal."""
    return " ".join(re.sub(r"\d+", "0", text.lower()).split())


def parse_deb822(text: str) -> Iterator[dict[str, str]]:
    """Yield the stanzas; a continuation line keeps all but its leading space."""
    for stanza in text.split("\n\n"):
        fields: dict[str, str] = {}
        name = ""
        for line in stanza.splitlines():
            if line.startswith((" ", "\t")):
                fields[name] += "\n" + line[1:]
            elif ":" in line and not line.startswith("#"):
                name, _, value = line.partition(":")
                fields[name] = value.strip()
        if fields:
            yield fields


def unfold_paragraphs(lines: Iterable[str]) -> list[str]:
    """Join the lines of a long description; ` .` parts paragraphs, a bullet starts a new line."""
    paragraphs: list[str] = [""]
    for line in lines:
        stripped = line.strip()
        if stripped in ("", "."):
            paragraphs.append("")
        elif not paragraphs[-1]:
            paragraphs[-1] = stripped
        else:
            paragraphs[-1] += ("\n" if BULLET.match(stripped) else " ") + stripped
    return [re.sub(r"[ \t]+", " ", paragraph) for paragraph in paragraphs if paragraph]


def read_packages(packages_path: Path, translation_path: Path) -> list[Package]:
    """Join Packages to Translation-en on Description-md5; sorted by name."""
    descriptions = {
        stanza["Description-md5"]: stanza["Description-en"]
        for stanza in parse_deb822(translation_path.read_text(encoding="utf-8"))
        if "Description-en" in stanza
    }
    packages = {}
    for stanza in parse_deb822(packages_path.read_text(encoding="utf-8")):
        folded = descriptions.get(stanza.get("Description-md5", ""), stanza["Description"])
        packages[stanza["Package"]] = _package(stanza, folded)
    return [packages[name] for name in sorted(packages)]


def _package(stanza: dict[str, str], folded: str) -> Package:
    synopsis, *rest = folded.split("\n")
    return Package(
        name=stanza["Package"],
        source=stanza.get("Source", stanza["Package"]).split(" ")[0],
        section=stanza["Section"].rpartition("/")[2],
        synopsis=synopsis.strip(),
        paragraphs=tuple(unfold_paragraphs(rest)),
        tags=tuple(sorted(set(re.findall(r"[^\s,]+::[^\s,]+", stanza.get("Tag", ""))))),
        depends=tuple(re.findall(r"(?:^|[,|])\s*([a-z0-9][a-z0-9.+-]+)", stanza.get("Depends", ""))),
    )


def drop_boilerplate(packages: list[Package], *, max_repeats: int = 3) -> list[Package]:
    """Remove description paragraphs that stand in more than `max_repeats` packages."""
    counts = Counter(key for package in packages for key in {normalise(p) for p in package.paragraphs})
    return [
        replace(
            package,
            paragraphs=tuple(p for p in package.paragraphs if counts[normalise(p)] <= max_repeats),
        )
        for package in packages
    ]


def drop_duplicates(packages: list[Package]) -> list[Package]:
    """Keep the first package, by name, of those whose normalised texts are equal."""
    seen: set[str] = set()
    kept = []
    for package in packages:
        key = normalise(package.text)
        if key not in seen:
            seen.add(key)
            kept.append(package)
    return kept
