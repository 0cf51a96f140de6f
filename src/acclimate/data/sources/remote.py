"""Files that fsspec opens: S3, GCS, HTTP, SSH and others (https://filesystem-spec.readthedocs.io).

Each is downloaded into a cache below .acclimate/ by what the store says of its version, and read from there.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from acclimate.data.formats import TextBy
from acclimate.data.readers import check_ending, iter_batches
from acclimate.data.sources import Part, SourceBatch, TextColumns
from acclimate.data.streams import fault
from acclimate.errors import DataError

CACHE = Path(".acclimate/cache/remote")
_VERSION_KEYS = (
    "ETag",
    "etag",
    "md5Hash",
    "crc32c",
    "Content-MD5",
    "versionId",
    "Last-Modified",
    "LastModified",
    "mtime",
    "updated",
    "created",
)
_SECRET = re.compile(r"key|secret|token|passw|credential|cert", re.IGNORECASE)
_BLOCK_BYTES = 4 << 20
_PACKAGES = {
    "s3": "s3fs",
    "s3a": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "ssh": "paramiko",
    "sftp": "paramiko",
    "http": "aiohttp",
    "https": "aiohttp",
    "az": "adlfs",
    "abfs": "adlfs",
}
_CREDENTIALS = {
    "s3": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or `options: {profile: NAME}`, or `{anon: true}` if public",
    "gs": "set GOOGLE_APPLICATION_CREDENTIALS (`options: {token: anon}` for a public bucket)",
    "ssh": "give a key in ~/.ssh or in the agent, and the user as ssh://USER@HOST/",
    "http": "the server asks for a login; put it into ~/.netrc",
}
_FAMILY = {"s3a": "s3", "gcs": "gs", "sftp": "ssh", "https": "http"}


class Config(TextColumns):
    """A URL, which may hold a glob, and what the columns of its files are."""

    url: str = Field(description="such as s3://bucket/corpus/*.jsonl.zst, gs://, https://, ssh://user@host/path")
    options: dict[str, Any] = Field(default={}, description="for the file system, such as anon, profile, endpoint_url; no secrets")
    text_by: TextBy = "blank_line"

    @model_validator(mode="after")
    def _no_secrets(self) -> Config:
        if "://" not in self.url:
            raise ValueError("`url` needs a scheme, such as s3://, gs://, https:// or ssh://; files below data/ are the source `files`")
        if urlsplit(self.url).password is not None:
            raise ValueError("`url` holds a password; secrets do not belong in params.yaml, but in the environment, ~/.netrc or ~/.ssh")
        secrets = [name for name, value in self.options.items() if _SECRET.search(name) and (name, value) != ("token", "anon")]
        if secrets:
            raise ValueError(f"`options.{secrets[0]}` looks like a secret; these do not belong in params.yaml, but in the environment")
        return self


def parts(config: Config, data: Path, *, where: str) -> list[Part]:  # noqa: ARG001  # every kind of source has this signature
    """A part for each file that the URL names, by path; nothing is downloaded yet. The key holds the file's version.

    Raises:
        DataError: a package or credentials missing, the store does not answer, nothing matches, or an ending is not known.
    """
    scheme = urlsplit(config.url).scheme
    file_system, path = _file_system(config, where)
    with _Named(config.url, scheme, where):
        paths = sorted(file_system.glob(path)) if any(c in path for c in "*[") else [path]
        infos = [file_system.info(one) for one in paths]
    infos = [info for info in infos if info.get("type") != "directory"]
    if not infos:
        raise fault(where, config.url, "no file matches, or it is a directory; such as " + config.url.rstrip("/*") + "/*.jsonl")
    found = []
    for info in infos:
        name = file_system.unstrip_protocol(info["name"])
        check_ending(_file_name(name, where), where=f"{where}: {name}")
        found.append(Part(f"{name}#{_version(info)}", name, (info["name"],), size_bytes=int(info.get("size") or 0)))
    return found


def _file_name(url: str, where: str) -> Path:
    name = PurePosixPath(urlsplit(url).path).name
    if not name:
        raise fault(where, url, "names no file")
    return Path(name)


def _version(info: dict[str, Any]) -> str:
    """Names the bytes as far as the store does. Where it says the size alone, the version is `unknown` and nothing is cached."""
    told = [f"{key}={info[key]}" for key in _VERSION_KEYS if info.get(key) not in (None, "")]
    if not told:
        return "unknown"
    return hashlib.sha256("\n".join([f"size={info.get('size')}", *told]).encode()).hexdigest()[:16]


def _file_system(config: Config, where: str) -> tuple[Any, str]:
    fsspec: Any = importlib.import_module("fsspec")  # by name: it ships no types
    scheme = urlsplit(config.url).scheme
    with _Named(config.url, scheme, where):
        if _FAMILY.get(scheme, scheme) == "s3":
            _require_s3_credentials(config, where)
        file_system, path = fsspec.core.url_to_fs(config.url, **config.options)
    return file_system, path


def _require_s3_credentials(config: Config, where: str) -> None:
    """Ask botocore itself, which knows variables, profiles, SSO and instance roles, before the first request fails in its own words."""
    if config.options.get("anon"):
        return
    session = importlib.import_module("botocore.session")
    exceptions: Any = importlib.import_module("botocore.exceptions")
    try:
        found = session.Session(profile=config.options.get("profile")).get_credentials()
    except exceptions.BotoCoreError as error:
        raise fault(where, config.url, f"{error}; {_CREDENTIALS['s3']}") from None
    if found is None:
        raise fault(where, config.url, f"no credentials for S3; {_CREDENTIALS['s3']}")


class _Named:
    """Turns what a file system raises into one line with the URL and what to do."""

    def __init__(self, url: str, scheme: str, where: str) -> None:
        self._url, self._scheme, self._where = url, scheme, where

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is not None and not isinstance(error, DataError) and isinstance(error, Exception):
            raise self._fault(error) from None

    def _fault(self, error: BaseException) -> DataError:
        cause = error.__cause__
        if isinstance(error, FileNotFoundError) and cause is not None and getattr(cause, "status", None) not in (404, 410):
            error = cause  # over HTTP every failure is called a file not found, also a server that does not answer
        told = (str(error).splitlines() or [""])[0] or type(error).__name__
        status = getattr(error, "status", None)
        is_login = type(error).__name__ in ("NoCredentialsError", "AuthenticationException")
        if isinstance(error, ImportError):
            package = _PACKAGES.get(self._scheme, f"the one that fsspec names ({told})")
            return fault(self._where, self._url, f"{self._scheme}:// needs a package that is not installed: {package}")
        if isinstance(error, FileNotFoundError):
            return fault(self._where, self._url, "no such file or bucket")
        if is_login or isinstance(error, PermissionError) or status in (401, 403):
            hint = _CREDENTIALS.get(_FAMILY.get(self._scheme, self._scheme), "give credentials")
            return fault(self._where, self._url, f"no access ({told}); {hint}")
        return fault(self._where, self._url, f"cannot be had ({type(error).__name__}: {told}); is the URL right, and the network there?")


def read_part(
    config: Config,
    part: Part,
    data: Path,  # noqa: ARG001  # every kind of source has this signature
    *,
    where: str,
    cache: Path = CACHE,
) -> Iterator[SourceBatch]:
    """Batches of one part, downloaded if the cache does not hold this version.

    Raises:
        DataError: see `parts` and `readers.iter_batches`; or the file changed or was cut short on the way.
    """
    path = download(config, part, where=where, cache=cache)
    batches = iter_batches(
        path,
        config.wanted(),
        where=f"{where}: {part.name}",
        encoding=config.encoding,
        text_by=config.text_by,
        max_record_bytes=config.max_record_bytes,
    )
    for batch in batches:
        yield config.batch(part.name, batch)


def download(config: Config, part: Part, *, where: str, cache: Path = CACHE) -> Path:
    """The local copy of a part's file; several processes may ask for it at once.

    Raises:
        DataError: the store does not answer, or gives another version or fewer bytes than it said.
    """
    version = part.key.rpartition("#")[2]
    name = _file_name(part.name, where).name
    target = cache / hashlib.sha256(part.name.encode()).hexdigest()[:16] / version / name
    if version != "unknown" and target.is_file():
        return target
    file_system, _ = _file_system(config, where)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=".", suffix=".partial")
    try:
        with os.fdopen(handle, "wb") as file, _Named(part.name, urlsplit(config.url).scheme, where):
            num_bytes = _copy(file_system, part.files[0], file)
            after = file_system.info(part.files[0])
        expected = after.get("size")
        if expected is not None and "Content-Encoding" not in after and num_bytes != expected:
            raise fault(where, part.name, f"{num_bytes:,} of {expected:,} bytes came; try again")
        if _version(after) != version:
            raise fault(where, part.name, "changed since its parts were listed; start the run again")
        os.replace(temporary, target)
    finally:
        Path(temporary).unlink(missing_ok=True)
    return target


def _copy(file_system: Any, path: str, file: Any) -> int:
    num_bytes = 0
    with file_system.open(path, "rb", block_size=_BLOCK_BYTES) as source:
        while block := source.read(_BLOCK_BYTES):
            file.write(block)
            num_bytes += len(block)
    return num_bytes


def read(config: Config, data: Path, *, where: str, cache: Path = CACHE) -> Iterator[SourceBatch]:
    """Every batch of every file, in the order of `parts`.

    Raises:
        DataError: see `parts` and `read_part`.
    """
    for part in parts(config, data, where=where):
        yield from read_part(config, part, data, where=where, cache=cache)
