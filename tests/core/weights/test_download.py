"""Downloads, from servers that misbehave."""

import errno
import gzip
import hashlib
import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save
from weights_server import CONTENT, SHA256, Server, zipped

from kd3d_core.errors import DataError, WeightsError
from kd3d_core.weights import download
from kd3d_core.weights.download import download_file


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "model.pth"


def short(value: object) -> str:
    """For the names of tests."""
    return f"{len(value)} bytes" if isinstance(value, bytes) else str(value)[:20]


def others(path: Path) -> set[str]:
    """Files beside a download, but for its lock."""
    return {entry.name for entry in path.parent.iterdir()} - {path.name, "lock"}


def test_a_plain_download(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "deep" / "model.pth"
    progress: list[tuple[int, int]] = []
    digest = download_file(
        server.url, target, SHA256[:8], len(CONTENT), lambda *state: progress.append(state)
    )
    assert digest == SHA256
    assert target.read_bytes() == CONTENT
    assert progress[-1] == (len(CONTENT), len(CONTENT))
    assert others(target) == set()


@pytest.mark.parametrize("sha256", ["", SHA256])
def test_dropped_connections_are_resumed(server: Server, target: Path, sha256: str) -> None:
    server.drop_after, server.drops = 800_000, 3
    download_file(server.url, target, sha256)
    assert target.read_bytes() == CONTENT
    assert server.requests == [None, "bytes=800000-", "bytes=1600000-", "bytes=2400000-"]


def test_a_later_call_goes_on_where_the_first_gave_up(server: Server, target: Path) -> None:
    server.drop_after, server.drops = 1_000_000, 1

    class OneAnswerError(Exception):
        pass

    def stop(done: int, total: int) -> None:
        if done >= 1_000_000:
            raise OneAnswerError

    with pytest.raises(OneAnswerError):  # as Ctrl-C would
        download_file(server.url, target, SHA256, on_progress=stop)
    assert not target.exists()
    kept = Path(f"{target}.part").stat().st_size
    assert kept > 0
    server.drop_after = None
    download_file(server.url, target, SHA256)
    assert server.requests[-1] == f"bytes={kept}-"
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize(
    "faults",
    [
        {"ranges": False, "drop_after": 1_000_000, "drops": 2},
        {"lie_about_start": True, "drop_after": 1_000_000, "drops": 1},
        {"statuses": [503, 500, 429]},
    ],
    ids=["no ranges", "another range", "recovers"],
)
def test_servers_from_which_the_file_comes_all_the_same(
    server: Server, target: Path, faults: dict[str, Any]
) -> None:
    vars(server).update(faults)
    assert download_file(server.url, target) == SHA256
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("faults", "reason", "requests"),
    [
        ({"statuses": [503] * 20}, "503.*run the command again", 5),
        ({"statuses": [404]}, r"model\.pth cannot be downloaded: .*404", 1),
        ({"drop_after": 0}, "broke off after 0 of", 5),
    ],
)
def test_servers_from_which_it_does_not_come(
    server: Server, target: Path, faults: dict[str, Any], reason: str, requests: int
) -> None:
    vars(server).update(faults)
    with pytest.raises(WeightsError, match=reason):
        download_file(server.url, target)
    assert len(server.requests) == requests


@pytest.mark.parametrize(
    ("tag", "sha256", "requests"),
    [("zero", "", ["bytes=3000-"]), ("one", SHA256, ["bytes=3000-", None])],
    ids=["the file changed", "the part is wrong though its tag is right"],
)
def test_parts_of_another_file_are_begun_anew(
    server: Server, target: Path, tag: str, sha256: str, requests: list[str | None]
) -> None:
    Path(f"{target}.part").write_bytes(b"old" * 1000)
    Path(f"{target}.part.tag").write_text(json.dumps({"url": server.url, "tag": f'"{tag}"'}))
    assert download_file(server.url, target, sha256) == SHA256
    assert server.requests == requests
    assert target.read_bytes() == CONTENT


def test_without_validator_and_hash_nothing_is_resumed(server: Server, target: Path) -> None:
    server.etag, server.drop_after, server.drops = "", 1_000_000, 1
    download_file(server.url, target)
    assert target.read_bytes() == CONTENT
    assert server.requests == [None, None]


@pytest.mark.parametrize("extra", [0, 100])
def test_parts_as_long_as_the_file_or_longer(server: Server, target: Path, extra: int) -> None:
    Path(f"{target}.part").write_bytes(CONTENT + b"x" * extra)
    assert download_file(server.url, target, SHA256) == SHA256
    assert target.read_bytes() == CONTENT


def test_wrong_bytes_are_removed_and_named(server: Server, target: Path) -> None:
    server.content = CONTENT[:-1] + b"!"
    with pytest.raises(WeightsError) as error:
        download_file(server.url, target, SHA256)
    assert server.url in str(error.value)
    assert SHA256 in str(error.value)
    assert hashlib.sha256(server.content).hexdigest() in str(error.value)
    assert not target.exists()
    assert others(target) == set()


def test_no_server_at_all(server: Server, target: Path) -> None:
    url = server.url
    server.server_close()
    with pytest.raises(WeightsError, match="Connection refused"):
        download_file(url, target)


def test_a_full_disk(server: Server, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil._ntuple_diskusage(10**9, 10**9 - 10**6, 10**6)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: usage)
        with pytest.raises(WeightsError, match=r"no space is left.*3 MB are needed, 1 MB are free"):
            download_file(server.url, target)

    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(download, "_append", full)
    with pytest.raises(WeightsError, match=r"no space is left.*KD3D_CACHE"):
        download_file(server.url, target)


def test_two_downloads_of_one_file(server: Server, target: Path) -> None:

    def second(done: int, total: int) -> None:
        with pytest.raises(DataError, match="another process"):
            download_file(server.url, target)

    assert download_file(server.url, target, on_progress=second) == SHA256


class TestWithoutAHash:
    """What doesn't show that it is whole isn't kept."""

    def get(self, server: Server, target: Path, *, size: int = 0) -> str:
        url = server.url.replace("model.pth", target.name)
        return download_file(url, target, size=size)

    @pytest.mark.parametrize(
        ("name", "content", "reason"),
        [
            ("x.pth", CONTENT[:-1], "cut off or damaged"),
            ("x.pth", CONTENT[:2_000_000], "cut off or damaged"),
            ("x.pth", b"", "cut off or damaged"),
            ("x.bin", CONTENT[:9000] + b"?" + CONTENT[9001:], "archive/data/0 in it fails"),
            ("x.pth", gzip.compress(CONTENT), "compressed with gzip"),
            ("x.json", gzip.compress(b"{}"), "compressed with gzip"),
            ("x.json", b'{"depths": [1, 2', "cut off or damaged"),
            ("x.json", b"[" * 100_000, "cut off or damaged"),
            ("x.json", b"\xff\xfe", "cut off or damaged"),
            ("x.safetensors", save({"a": torch.ones(99)})[:-1], "cut off or damaged"),
            ("x.safetensors", save({"a": torch.ones(99)}) + b"x", "cut off or damaged"),
            ("x.safetensors", b"\xff" * 100, "cut off or damaged"),
            ("x.safetensors", b"version https://git-lfs.github.com/spec/v1", "pointer of Git LFS"),
            ("x.pth", b"\n<!DOCTYPE html><html>Please log in</html>", "a web page"),
        ],
        ids=short,
    )
    def test_a_file_that_is_not_what_its_name_says(self, server, tmp_path, name, content, reason):
        server.content = content
        with pytest.raises(WeightsError, match=f"{name} is .*{reason}.*it was removed") as caught:
            self.get(server, tmp_path / name)
        assert "\n" not in str(caught.value)
        assert others(tmp_path / name) == set()
        assert not (tmp_path / name).exists()

    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("x.pth", CONTENT),
            ("x.bin", CONTENT),
            ("x.json", b' {"depths": [1]}\n'),
            ("x.safetensors", save({"a": torch.ones(99)})),
            ("x.txt", b"whatever"),
        ],
        ids=short,
    )
    def test_whole_files_are_kept(self, server, tmp_path, name, content):
        server.content = content
        assert self.get(server, tmp_path / name, size=len(content))
        assert (tmp_path / name).read_bytes() == content

    def test_checkpoints_of_old_torch_are_kept_too(self, server, tmp_path):
        old = io.BytesIO()
        torch.save({"a": torch.ones(3)}, old, _use_new_zipfile_serialization=False)
        server.content = old.getvalue()
        self.get(server, tmp_path / "x.pth")
        assert (tmp_path / "x.pth").read_bytes() == old.getvalue()

    def test_a_mixture_of_two_files(self, server, tmp_path):
        """The server goes on with another file than it began with, against If-Range."""
        other = zipped(bytes(range(255, -1, -1)) * 12_000)
        server.drop_after, server.drops, server.ignore_if_range = 1_000_000, 1, True

        def change(done: int, total: int) -> None:
            if done >= 1_000_000:
                server.content, server.etag = other, '"two"'

        target = tmp_path / "model.pth"
        download_file(server.url, target, on_progress=change)
        assert target.read_bytes() == other
        assert server.requests == [None, "bytes=1000000-", None]

    def test_a_mixture_that_the_server_hides(self, server, tmp_path):
        """The same tag for another file: its checksums tell, and it is loaded anew."""
        (tmp_path / "model.pth.part").write_bytes(b"P" * 1_000_000)
        tag = json.dumps({"url": server.url, "tag": server.etag})
        (tmp_path / "model.pth.part.tag").write_text(tag)
        assert self.get(server, tmp_path / "model.pth") == SHA256
        assert server.requests == ["bytes=1000000-", None]


@pytest.mark.parametrize("sha256", ["", SHA256])
@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({"Content-Length": "many"}, "'many' is no length"),
        ({"Content-Length": "-5"}, "'-5' is no length"),
        ({"Content-Length": "9" * 5000}, "'9{39}…' is no length"),
        ({"Content-Length": "²"}, "is no length"),
        ({"Content-Length": "5, 5"}, "'5, 5' is no length"),
        ({"Content-Encoding": "gzip"}, "encoded as 'gzip'"),
        ({"Content-Type": "text/html; charset=utf-8"}, "a web page in its place"),
        ({"Content-Length": "100"}, "100 bytes on the server, and should have"),
        ({"Content-Length": "9" * 15}, "no space is left"),
    ],
)
def test_answers_that_cannot_be_the_file(server, target, headers, reason, sha256):
    server.headers = headers
    size = 0 if reason.startswith("no space") else len(CONTENT)
    with pytest.raises(WeightsError, match=reason) as caught:
        download_file(server.url, target, sha256, size)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500
    assert not target.exists()


@pytest.mark.parametrize(
    "said", ["bytes ²-9/10", "bytes 1-2/" + "9" * 5000, "5-9/10", "x"], ids=short
)
def test_a_range_that_is_none_begins_anew(server, target, said):
    server.headers = {"Content-Range": said}
    Path(f"{target}.part").write_bytes(CONTENT[:1000])
    assert download_file(server.url, target, SHA256) == SHA256
    assert server.requests == ["bytes=1000-", None]


def test_a_file_without_a_length_that_is_too_short(server, tmp_path):
    server.headers, server.content = {"Content-Length": ""}, CONTENT[:-1000]
    with pytest.raises(WeightsError, match=f"has {len(CONTENT) - 1000} bytes, not {len(CONTENT)}"):
        download_file(server.url, tmp_path / "model.dat", size=len(CONTENT))
