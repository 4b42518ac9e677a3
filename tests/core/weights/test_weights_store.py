"""Weights by name: the catalogue, what lies in the cache, and the command."""

import sys
from pathlib import Path

import pytest
import yaml
from weights_server import CONTENT, SHA256, Server, zipped

from kd3d_core.cli import weights as command
from kd3d_core.errors import ConfigError, WeightsError
from kd3d_core.paths import share_dir
from kd3d_core.weights import catalogue, resolve, store


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
    zoo = ("mvxnet", "second", "pointpillars", "smoke", "pgd", "imvoxelnet")
    for name in (*(f"{network}-kitti" for network in zoo), "fcos3d-nuscenes"):
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
