"""Extractions that were interrupted, are repeated, or meet a folder that isn't theirs."""

import json
import os
from collections import Counter
from pathlib import Path

import pytest
from small_recording import (
    drive,
    tree,
    write,
)

from kd3d_core.errors import DataError, Kd3dError
from kd3d_core.extract import run, work
from kd3d_core.extract.config import ExtractConfig
from kd3d_core.extract.run import extract

PLAIN = ExtractConfig()


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path) -> None:
    bag = write(tmp_path / "bag", drive(2))
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.tex").write_text("all of it")
    with pytest.raises(DataError, match=r"holds something .* \(thesis.tex\)"):
        extract([bag], out, PLAIN)
    assert tree(out).keys() == {"thesis.tex"}


def test_a_second_run_does_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bag = write(tmp_path / "bag", drive(3))
    extract([bag], tmp_path / "out", PLAIN)
    before = tree(tmp_path / "out")
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.png")}
    monkeypatch.setattr(run, "BagReader", None)  # nothing is read any more
    assert extract([bag], tmp_path / "out", PLAIN).report is None
    assert tree(tmp_path / "out") == before
    assert times == {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.png")}
    with pytest.raises(DataError, match="frames of other recordings or settings"):
        extract([bag], tmp_path / "out", ExtractConfig(every=2))
    assert tree(tmp_path / "out") == before


def test_checking_extracts_nothing_and_other_settings_may_follow(tmp_path: Path) -> None:
    bag, out = write(tmp_path / "bag", drive(3)), tmp_path / "out"
    checked = extract([bag], out, PLAIN, check=True).report
    assert checked is not None
    assert not checked.extracted
    assert not (out / "training").exists()
    assert json.loads((out / "report.json").read_text())["extracted"] is False
    ((found,),) = [recording.cameras for recording in checked.recordings]
    assert len(found.frames) == 3
    assert [look.name for look in found.looks] == ["000000", "000001", "000002"]
    assert (out / "report.html").is_file()
    report = extract([bag], out, ExtractConfig(every=2)).report
    assert report is not None
    assert report.frame_count == 2


class _Interrupted(BaseException):
    pass


@pytest.fixture(scope="module")
def ten(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A recording of ten frames, and all that comes of it."""
    folder = tmp_path_factory.mktemp("ten")
    bag = write(folder / "bag", drive(10))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(work, "_BLOCK_FRAMES", 3)
        extract([bag], folder / "whole", PLAIN)
    return bag, tree(folder / "whole")


@pytest.mark.parametrize("stop_at", [1, 4, 10, 15])
def test_an_interrupted_run_goes_on(
    ten: tuple[Path, dict[str, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stop_at: int,
) -> None:
    """Stopped at one of its writes, with half a file left: the end is the same, byte for byte."""
    bag, whole = ten
    monkeypatch.setattr(work, "_BLOCK_FRAMES", 3)
    renamed, rename = Counter[str](), Path.replace

    def stop(path: Path, target: Path) -> Path:
        renamed["times"] += 1
        if renamed["times"] == 3 * stop_at:
            path.with_name("left.12345678.part").write_bytes(path.read_bytes()[:10])
            raise _Interrupted
        return rename(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", stop)
        with pytest.raises(_Interrupted):
            extract([bag], tmp_path / "out", PLAIN)
    extract([bag], tmp_path / "out", PLAIN)
    assert tree(tmp_path / "out") == whole


def test_a_full_disk_is_a_line_and_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bag = write(tmp_path / "bag", drive(4))
    extract([bag], tmp_path / "whole", PLAIN)
    written = Path.write_bytes

    def full(path: Path, data: bytes) -> int:
        if "000002.bin" in path.name:
            raise OSError(28, os.strerror(28))
        return written(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(Kd3dError, match="No space left on device"):
            extract([bag], tmp_path / "out", PLAIN)
    assert not list((tmp_path / "out").rglob("000002.*"))
    extract([bag], tmp_path / "out", PLAIN)
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")
