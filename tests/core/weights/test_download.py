"""Weights: the catalogue, downloads from a server that misbehaves, and the command."""

import errno
import gzip
import hashlib
import io
import json
import shutil
import sys
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import save

from kd3d_core.cli import weights as command
from kd3d_core.errors import ConfigError, DataError, WeightsError
from kd3d_core.paths import share_dir
from kd3d_core.weights import catalogue, download, resolve, store
from kd3d_core.weights.download import download_file


def zipped(tensors: bytes) -> bytes:
    """As torch writes them: nothing is compressed, each part has a checksum."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}.")
        archive.writestr("archive/data/0", tensors)
    return buffer.getvalue()


CONTENT = zipped(bytes(range(256)) * 12_000)  # 3 MB: several chunks
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves one file at every path, as well or as badly as a test wants.

    Attributes:
        content: the file.
        etag: its ETag; none if empty.
        ranges: whether Range is understood.
        drop_after: bytes after which each answer breaks off; None never.
        drops: how many answers break off.
        lie_about_start: answer a Range from its neighbour.
        statuses: status codes of the next answers, before any 200.
        headers: sent instead of what the server would say.
        ignore_if_range: answer a Range of a file that has changed meanwhile.
        requests: Range headers that came, None for none.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        # Clients that hang up are what some tests are about; no traceback for them.
        self.handle_error = lambda *_: None
        self.content, self.etag, self.ranges = CONTENT, '"one"', True
        self.drop_after: int | None = None
        self.drops = 10**9
        self.lie_about_start = False
        self.statuses: list[int] = []
        self.headers: dict[str, str] = {}
        self.ignore_if_range = False
        self.requests: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/model.pth"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server, span = self.server, self.headers.get("Range")
        server.requests.append(span)
        if server.statuses:
            self.send_error(server.statuses.pop(0))
            return
        start = 0
        same = server.ignore_if_range or (self.headers.get("If-Range", server.etag) == server.etag)
        if span and server.ranges and same:
            start = int(span.removeprefix("bytes=").rstrip("-"))
            if start >= len(server.content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(server.content)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            if server.lie_about_start:
                start -= 1
            self.send_response(206)
            end = len(server.content)
            if "Content-Range" not in server.headers:
                self.send_header("Content-Range", f"bytes {start}-{end - 1}/{end}")
        else:
            self.send_response(200)
        body = server.content[start:]
        said = {"Content-Length": str(len(body)), "ETag": server.etag} | server.headers
        for name, value in said.items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        if server.drop_after is not None and len(body) > server.drop_after and server.drops > 0:
            server.drops -= 1
            body = body[: server.drop_after]
        self.wfile.write(body)
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "_BACKOFF_S", 0.0)


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
def test_dropped_connections_are_resumed(server: Server, tmp_path: Path, sha256: str) -> None:
    server.drop_after, server.drops = 800_000, 3
    target = tmp_path / "model.pth"
    download_file(server.url, target, sha256)
    assert target.read_bytes() == CONTENT
    assert server.requests == [None, "bytes=800000-", "bytes=1600000-", "bytes=2400000-"]


def test_a_later_call_goes_on_where_the_first_gave_up(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "model.pth"
    server.drop_after, server.drops = 1_000_000, 1

    class OneAnswerError(Exception):
        pass

    def stop(done: int, total: int) -> None:
        if done >= 1_000_000:
            raise OneAnswerError

    with pytest.raises(OneAnswerError):  # as Ctrl-C would
        download_file(server.url, target, SHA256, on_progress=stop)
    assert not target.exists()
    kept = (tmp_path / "model.pth.part").stat().st_size
    assert kept > 0
    server.drop_after = None
    download_file(server.url, target, SHA256)
    assert server.requests[-1] == f"bytes={kept}-"
    assert target.read_bytes() == CONTENT


def test_servers_without_ranges_send_all_again(server: Server, tmp_path: Path) -> None:
    server.ranges, server.drop_after, server.drops = False, 1_000_000, 2
    target = tmp_path / "model.pth"
    download_file(server.url, target, SHA256)
    assert target.read_bytes() == CONTENT


def test_without_validator_and_hash_nothing_is_resumed(server: Server, tmp_path: Path) -> None:
    server.etag, server.drop_after, server.drops = "", 1_000_000, 1
    target = tmp_path / "model.pth"
    download_file(server.url, target)
    assert target.read_bytes() == CONTENT
    assert server.requests == [None, None]


def test_a_file_that_changed_meanwhile_is_begun_anew(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "model.pth"
    (tmp_path / "model.pth.part").write_bytes(b"old" * 1000)
    (tmp_path / "model.pth.part.tag").write_text(f'{{"url": "{server.url}", "tag": "\\"zero\\""}}')
    download_file(server.url, target)
    assert server.requests == ["bytes=3000-"]
    assert target.read_bytes() == CONTENT


def test_a_part_that_is_wrong_though_its_tag_is_right(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "model.pth"
    (tmp_path / "model.pth.part").write_bytes(b"old" * 1000)
    (tmp_path / "model.pth.part.tag").write_text(f'{{"url": "{server.url}", "tag": "\\"one\\""}}')
    assert download_file(server.url, target, SHA256) == SHA256
    assert server.requests == ["bytes=3000-", None]
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("extra", [0, 100])
def test_parts_as_long_as_the_file_or_longer(server: Server, tmp_path: Path, extra: int) -> None:
    target = tmp_path / "model.pth"
    (tmp_path / "model.pth.part").write_bytes(CONTENT + b"x" * extra)
    assert download_file(server.url, target, SHA256) == SHA256
    assert target.read_bytes() == CONTENT


def test_a_server_that_answers_another_range(server: Server, tmp_path: Path) -> None:
    server.lie_about_start, server.drop_after, server.drops = True, 1_000_000, 1
    target = tmp_path / "model.pth"
    assert download_file(server.url, target) == SHA256


def test_wrong_bytes_are_removed_and_named(server: Server, tmp_path: Path) -> None:
    server.content = CONTENT[:-1] + b"!"
    target = tmp_path / "model.pth"
    with pytest.raises(WeightsError) as error:
        download_file(server.url, target, SHA256)
    assert server.url in str(error.value)
    assert SHA256 in str(error.value)
    assert hashlib.sha256(server.content).hexdigest() in str(error.value)
    assert not target.exists()
    assert others(target) == set()


def test_a_server_that_recovers(server: Server, tmp_path: Path) -> None:
    server.statuses = [503, 500, 429]
    assert download_file(server.url, tmp_path / "model.pth") == SHA256


def test_a_server_that_does_not(server: Server, tmp_path: Path) -> None:
    server.statuses = [503] * 20
    with pytest.raises(WeightsError, match=r"503.*run the command again"):
        download_file(server.url, tmp_path / "model.pth")
    assert len(server.requests) == 5


def test_files_that_are_not_there(server: Server, tmp_path: Path) -> None:
    server.statuses = [404]
    with pytest.raises(WeightsError, match=r"model\.pth cannot be downloaded: .*404"):
        download_file(server.url, tmp_path / "model.pth")
    assert len(server.requests) == 1


def test_no_server_at_all(server: Server, tmp_path: Path) -> None:
    url = server.url
    server.server_close()
    with pytest.raises(WeightsError, match="Connection refused"):
        download_file(url, tmp_path / "model.pth")


def test_a_connection_that_never_gets_further(server: Server, tmp_path: Path) -> None:
    server.drop_after = 0
    with pytest.raises(WeightsError, match="broke off after 0 of"):
        download_file(server.url, tmp_path / "model.pth")


def test_a_full_disk(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil._ntuple_diskusage(10**9, 10**9 - 10**6, 10**6)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: usage)
        with pytest.raises(WeightsError, match=r"no space is left.*3 MB are needed, 1 MB are free"):
            download_file(server.url, tmp_path / "model.pth")

    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(download, "_append", full)
    with pytest.raises(WeightsError, match=r"no space is left.*KD3D_CACHE"):
        download_file(server.url, tmp_path / "model.pth")


def test_two_downloads_of_one_file(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "model.pth"

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
def test_answers_that_cannot_be_the_file(server, tmp_path, headers, reason, sha256):
    server.headers = headers
    size = 0 if reason.startswith("no space") else len(CONTENT)
    with pytest.raises(WeightsError, match=reason) as caught:
        download_file(server.url, tmp_path / "model.pth", sha256, size)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500
    assert not (tmp_path / "model.pth").exists()


@pytest.mark.parametrize(
    "said", ["bytes ²-9/10", "bytes 1-2/" + "9" * 5000, "5-9/10", "x"], ids=short
)
def test_a_range_that_is_none_begins_anew(server, tmp_path, said):
    server.headers = {"Content-Range": said}
    (tmp_path / "model.pth.part").write_bytes(CONTENT[:1000])
    assert download_file(server.url, tmp_path / "model.pth", SHA256) == SHA256
    assert server.requests == ["bytes=1000-", None]


def test_a_file_without_a_length_that_is_too_short(server, tmp_path):
    server.headers, server.content = {"Content-Length": ""}, CONTENT[:-1000]
    with pytest.raises(WeightsError, match=f"has {len(CONTENT) - 1000} bytes, not {len(CONTENT)}"):
        download_file(server.url, tmp_path / "model.dat", size=len(CONTENT))


# The catalogue and what lies in the cache.


@pytest.fixture
def cache(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and a catalogue whose files come from the server."""
    entries = {
        "single": {"files": [{"url": server.url, "sha256": SHA256[:8]}]},
        "folder": {
            "files": [{"url": server.url.replace("model.pth", name)} for name in ("a.pth", "b.bin")]
        },
    }
    for name, entry in entries.items():
        entry |= {"description": f"a {name}", "origin": "this test", "licence": "MIT"}
        entry["commercial_use"] = name == "single"
    path = tmp_path / "weights.yaml"
    path.write_text(yaml.safe_dump({"weights": entries}))
    loaded = catalogue.load_catalogue(path)
    for module in (catalogue, store, command):
        monkeypatch.setattr(module, "load_catalogue", lambda: loaded, raising=False)
    monkeypatch.setenv("KD3D_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "weights"


def test_the_catalogue_of_kd3d() -> None:
    entries = catalogue.load_catalogue()
    assert {"glpn-kitti", "mvxnet-kitti", "second-kitti", "pointpillars-kitti"} <= set(entries)
    assert entries["glpn-kitti"].commercial_use is False
    for entry in entries.values():
        assert entry.origin
        assert entry.licence
    for name in ("mvxnet-kitti", "second-kitti", "pointpillars-kitti"):
        (file,) = entries[name].files
        assert file.name.endswith(f"-{file.sha256}.pth")  # as its publisher names it


def test_model_configurations_name_weights_that_exist() -> None:
    known = {*catalogue.load_catalogue(), "random"}
    for path in (share_dir() / "config" / "models").glob("*.yaml"):
        config = yaml.safe_load(path.read_text())
        named = {config[part]["weights"] for part in ("depth", "detector") if part in config}
        assert named <= known, path


@pytest.mark.parametrize(
    "change",
    [
        {"url": "file:///etc/passwd"},
        {"url": "ftp://example.org/x.pth"},
        {"sha256": "12"},
        {"sha256": "XYZXYZXYZ"},
        {"colour": "blue"},
    ],
)
def test_catalogue_errors(tmp_path: Path, change: dict[str, str]) -> None:
    entry = {
        "description": "d",
        "files": [{"url": "https://example.org/x.pth"} | change],
        "origin": "o",
        "licence": "l",
        "commercial_use": "unknown",
    }
    path = tmp_path / "weights.yaml"
    path.write_text(yaml.safe_dump({"weights": {"some": entry}}))
    with pytest.raises(ConfigError):
        catalogue.load_catalogue(path)


def test_resolve(cache: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="kd3d-weights get single"):
        resolve("single")
    assert store.get("single") == resolve("single") == cache / "single" / "model.pth"
    assert resolve("single").read_bytes() == CONTENT
    assert store.get("folder") == resolve("folder") == cache / "folder"
    assert (resolve("folder") / "b.bin").read_bytes() == CONTENT
    (tmp_path / "mine.pth").write_bytes(b"x")
    assert resolve(str(tmp_path / "mine.pth")) == tmp_path / "mine.pth"
    assert resolve(tmp_path) == tmp_path
    with pytest.raises(WeightsError, match=r"'nothing'.*folder, single"):
        resolve("nothing")


def test_files_that_were_cut_off_later_are_damaged(cache: Path) -> None:
    path = store.get("single")
    path.write_bytes(CONTENT[:-5])
    with pytest.raises(WeightsError, match=r"is damaged: .*kd3d-weights get single"):
        resolve("single")
    assert store.get("single").read_bytes() == CONTENT


def test_without_a_published_hash_the_first_one_counts(cache: Path, server: Server) -> None:
    first = store.get("folder") / "a.pth"
    first.unlink()
    server.content = zipped(b"another file")
    with pytest.raises(WeightsError, match=f"not {SHA256}, as published or when it first came"):
        store.get("folder")
    assert not first.exists()
    server.content = CONTENT
    store.get("folder")
    first.unlink()
    server.content = zipped(b"another file")
    (cache / "folder" / "kd3d.json").unlink()
    store.get("folder")
    assert first.read_bytes() == server.content


@pytest.mark.parametrize(
    "record", ["", "[]", "3", '{"a.pth": 3}', '{"a.pth": {"sha256": 5, "size": "x"}}']
)
def test_a_damaged_record_counts_as_none(cache: Path, record: str) -> None:
    store.get("folder")
    (cache / "folder" / "kd3d.json").write_text(record)
    assert {file.state for file in store.verify("folder")} == {"present"}


def test_verify_tells_what_is_known(cache: Path) -> None:
    store.get("single")
    store.get("folder")
    (single,) = store.verify("single")
    assert (single.state, single.detail) == (
        "present",
        "verified, first 8 digits of sha256 as published",
    )
    first, second = store.verify("folder")
    assert "unverified" in first.detail
    (cache / "folder" / "a.pth").write_bytes(b"?" * len(CONTENT))
    first, second = store.verify("folder")
    assert (first.state, second.state) == ("damaged", "present")
    (cache / "single" / "model.pth").write_bytes(CONTENT[::-1])
    assert store.verify("single")[0].state == "damaged"


def test_files_put_there_by_hand(cache: Path) -> None:
    (cache / "single").mkdir(parents=True)
    (cache / "single" / "model.pth").write_bytes(CONTENT)
    assert resolve("single").is_file()
    assert "verified" in store.verify("single")[0].detail


def run(*words: str) -> int:
    arguments, sys.argv = sys.argv, ["kd3d-weights", *words]
    try:
        return command.main()
    finally:
        sys.argv = arguments


def test_the_command(cache: Path, server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("list") == 0
    listed = capsys.readouterr().out
    assert "single  missing" in listed
    assert "licence: MIT; commercial use: no" in listed
    assert run("get", "single", "folder") == 0
    got = capsys.readouterr().out
    assert "origin: this test" in got
    assert "model.pth: present, verified" in got
    assert "a.pth: present, unverified" in got
    served = len(server.requests)
    assert run("get", "single") == 0
    assert len(server.requests) == served
    assert run("verify") == 0
    (cache / "single" / "model.pth").write_bytes(CONTENT[::-1])
    capsys.readouterr()
    assert run("verify") == 1
    assert "single: damaged" in capsys.readouterr().out
    assert run("get", "nothing") == 1
    assert capsys.readouterr().err.startswith("kd3d-weights: there are no weights 'nothing'")
