"""Downloads that survive dropped connections, and never leave half a file under its name.

By hand, as no library does this: pooch 1.9 can't resume, and `http_get` of huggingface_hub 2.4
resumes without asking whether it is still the same file; neither knows the beginning of a hash.
"""

import contextlib
import errno
import fcntl
import hashlib
import http.client
import json
import logging
import os
import re
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from kd3d_core.errors import WeightsError, shown
from kd3d_core.files import locked
from kd3d_core.weights.contents import damage

Progress = Callable[[int, int], None]
"""Called with bytes here and bytes in all, 0 if unknown."""

_CHUNK = 1 << 20
_TIMEOUT_S = 30.0
_ATTEMPTS = 5  # without any progress in between
_BACKOFF_S = 0.5  # doubles with each attempt

_log = logging.getLogger(__name__)


class _TryAgainError(Exception):
    """The connection failed in a way that may pass."""


@dataclass(frozen=True)
class _Partial:
    """A download in progress: `NAME.part`, and beside it what identifies the file it is part of."""

    path: Path

    @property
    def _tag_path(self) -> Path:
        return self.path.with_name(self.path.name + ".tag")

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.is_file() else 0

    def tag(self, url: str) -> str:
        """Validator (ETag or date) under which the part was begun, if from the same address."""
        try:
            begun = json.loads(self._tag_path.read_text(encoding="utf-8"))
            return str(begun["tag"]) if begun["url"] == url else ""
        except (OSError, ValueError, KeyError, TypeError):
            return ""

    def begin(self, url: str, tag: str) -> None:
        self.path.write_bytes(b"")
        self._tag_path.write_text(json.dumps({"url": url, "tag": tag}), encoding="utf-8")

    def discard(self) -> None:
        self.path.unlink(missing_ok=True)
        self._tag_path.unlink(missing_ok=True)


def download_file(
    url: str,
    target: Path,
    sha256: str = "",
    size: int = 0,
    on_progress: Progress = lambda done, total: None,
) -> str:
    """Download `url` to `target`, which appears when it is complete and right.

    A dropped connection is resumed where it broke off, now or in a later call, if the server
    still has the same file.

    Args:
        url: http or https.
        target: where to put the file; its folder is made.
        sha256: expected hash or its beginning; empty if unknown, then the file itself has to show
            that it is whole, see `damage`.
        size: expected bytes; 0 if unknown.
        on_progress: see `Progress`.

    Returns:
        The file's sha256.

    Raises:
        WeightsError: no connection, no such file, no space, or another file than expected.
        DataError: another process downloads into the same folder.
    """
    busy = f"another process is downloading to {target.parent}: wait for it"
    partial = _Partial(target.with_name(target.name + ".part"))
    with _disk_errors(target), locked(target.parent, fcntl.flock, busy):
        resumed = partial.size > 0
        while True:
            _fetch(url, partial, sha256, size, on_progress)
            digest = sha256_of(partial.path)
            if not digest.startswith(sha256):
                fault = f"has sha256 {digest}, not {sha256}, as published or when it first came"
            elif size and partial.size != size:
                fault = f"has {partial.size} bytes, not {size}"
            else:
                fault = "" if sha256 else damage(partial.path, target.suffix)
            if not fault:
                os.replace(partial.path, target)
                partial.discard()
                return digest
            partial.discard()
            if not resumed:
                raise WeightsError(
                    f"{url} {fault}: it was removed; try again, and if that doesn't help don't "
                    "trust this source"
                )
            _log.warning("%s: what was resumed isn't the whole file: once more", target)
            resumed = False


def sha256_of(path: Path) -> str:
    """Hexadecimal sha256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _fetch(url: str, partial: _Partial, sha256: str, size: int, on_progress: Progress) -> None:
    """Bring the part to its full length, over as many connections as it takes."""
    failures = 0
    while True:
        before = partial.size
        try:
            _fetch_once(url, partial, sha256, size, on_progress)
            return
        except _TryAgainError as error:
            failures = 1 if partial.size > before else failures + 1
            if failures >= _ATTEMPTS:
                raise WeightsError(
                    f"{url} cannot be downloaded: {error}; {partial.size} bytes are kept, "
                    "run the command again to go on"
                ) from error
            time.sleep(_BACKOFF_S * 2 ** (failures - 1))


def _fetch_once(url: str, partial: _Partial, sha256: str, size: int, on_progress: Progress) -> None:
    have, tag = partial.size, partial.tag(url)
    if have and not (tag or sha256):  # nothing would tell a mixture of two files
        have = 0
    headers = {"User-Agent": "kd3d", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
        if tag:
            headers["If-Range"] = tag
    try:
        request = urllib.request.Request(url, headers=headers)
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as response:
            start, total = 0, _length(response)
            if response.status == http.client.PARTIAL_CONTENT:
                start, total = _content_range(response)
                if start != have or _validator(response) not in ("", tag):
                    partial.discard()
                    raise _TryAgainError("the server sent another part than it was asked for")
            if reason := _unwanted(response, total, size):
                raise WeightsError(f"{url} cannot be downloaded: {reason}")
            if start == 0:
                partial.begin(url, _validator(response))
            _check_space(partial.path, total - start)
            _append(response, partial, total, on_progress)
    except urllib.error.HTTPError as error:
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            if _content_range(error)[1] == have:
                return  # all of it was here already
            partial.discard()
            raise _TryAgainError("the part that was here is longer than the file") from error
        reason = f"the server answers {error.code} {shown(error.reason)}"
        if error.code >= 500 or error.code in (408, 429):
            raise _TryAgainError(reason) from error
        raise WeightsError(f"{url} cannot be downloaded: {reason}") from error
    except (
        urllib.error.URLError,
        http.client.HTTPException,
        ConnectionError,
        TimeoutError,
    ) as error:
        raise _TryAgainError(
            str(getattr(error, "reason", error)) or type(error).__name__
        ) from error


def _append(
    response: http.client.HTTPResponse, partial: _Partial, total: int, on_progress: Progress
) -> None:
    done = partial.size
    with partial.path.open("ab") as file:
        while chunk := _read(response):
            file.write(chunk)
            done += len(chunk)
            on_progress(done, total)
    if total and done < total:
        raise _TryAgainError(f"the connection broke off after {done} of {total} bytes")
    if total and done > total:
        partial.discard()
        raise _TryAgainError(f"the server sent {done} bytes, more than the {total} it announced")


def _read(response: http.client.HTTPResponse) -> bytes:
    """The next bytes; a network's OSErrors must not look like the disk's."""
    try:
        return response.read(_CHUNK)
    except OSError as error:
        raise _TryAgainError(f"the connection broke: {error}") from error


def _unwanted(response: http.client.HTTPResponse, total: int, size: int) -> str:
    """Why an answer isn't the file; empty if it may be."""
    encoding = response.headers.get("Content-Encoding", "identity")
    if encoding.lower() != "identity":
        return f"the server sends it encoded as {shown(encoding, 40)!r}, which it was asked not to"
    if response.headers.get_content_type() == "text/html":
        return "the server sends a web page in its place"
    if total < 0:
        return f"{shown(response.headers['Content-Length'], 40)!r} is no length of a file"
    if size and total not in (0, size):
        return f"it has {total} bytes on the server, and should have {size}"
    return ""


def _length(response: http.client.HTTPResponse) -> int:
    """Announced bytes; 0 where that isn't told, -1 where it isn't a number."""
    text = response.headers.get("Content-Length", "0")
    return int(text) if re.fullmatch(r"[0-9]{1,15}", text) else -1


def _validator(response: http.client.HTTPResponse) -> str:
    """What proves, when resuming, that it is still the same file; weak tags don't."""
    etag = response.headers.get("ETag", "")
    return etag if etag and not etag.startswith("W/") else response.headers.get("Last-Modified", "")


def _content_range(response: http.client.HTTPResponse | urllib.error.HTTPError) -> tuple[int, int]:
    """First byte and total of `bytes 5-9/10`, or `bytes */10`; -1 and 0 where not given."""
    number = r"([0-9]{1,15})"
    text = response.headers.get("Content-Range") or ""
    found = re.fullmatch(rf"bytes (?:{number}-[0-9]+|\*)/(?:{number}|\*)", text)
    return (int(found[1] or -1), int(found[2] or 0)) if found else (-1, 0)


def _check_space(path: Path, needed: int) -> None:
    free = shutil.disk_usage(path.parent).free
    if needed > free:
        raise OSError(
            errno.ENOSPC, f"{needed / 1e6:.0f} MB are needed, {free / 1e6:.0f} MB are free"
        )


@contextlib.contextmanager
def _disk_errors(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        reason = error.strerror or str(error)
        reason = f"no space is left on the disk ({reason})" if full else reason
        raise WeightsError(
            f"{target} cannot be written: {reason}; $KD3D_CACHE names another folder for downloads"
        ) from error
