"""An extraction from its settings to the finished data set: planned, worked through, completed."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from shutil import rmtree
from typing import Any

from kd3d_core import __version__
from kd3d_core.config import plain, settings_digest
from kd3d_core.data.bag import BagReader
from kd3d_core.data.extrinsics_file import read_extrinsics
from kd3d_core.errors import DataError, listed
from kd3d_core.extract.config import ExtractConfig
from kd3d_core.extract.frames import FaultyFrame
from kd3d_core.extract.output import FORMAT, complete_sets
from kd3d_core.extract.plan import RecordingPlan, load_plan, save_plan
from kd3d_core.extract.planning import plan_recording
from kd3d_core.extract.results import recording_report
from kd3d_core.extract.summary import REPORT_NAMES, ExtractReport, Look
from kd3d_core.extract.topics import RecordingTopics, choose_topics, set_names
from kd3d_core.extract.work import (
    WorkFolder,
    Written,
    block_names,
    block_size,
    extract_block,
    quiet_readers,
    results,
)
from kd3d_core.files import claimed, read_json, write_json, write_whole
from kd3d_core.progress import progress_of
from kd3d_core.workers import work_through


@dataclass(frozen=True)
class Outcome:
    """What a run did.

    Attributes:
        report: of the whole extraction; None if it was complete before.
        kept: frames that an earlier run had extracted.
    """

    report: ExtractReport | None
    kept: int = 0


def extract(
    bags: Sequence[Path],
    out: Path,
    config: ExtractConfig,
    *,
    workers: int = 1,
    ray_address: str = "",
    check: bool = False,
) -> Outcome:
    """Extract recordings into data sets in KITTI's layout, or go on where a run was interrupted.

    Args:
        bags: recordings.
        out: folder of the output.
        config: settings.
        workers: processes.
        ray_address: of a Ray cluster that does the work instead.
        check: only find out what would be extracted.

    Raises:
        DataError: a recording lacks what is needed, there is not one frame, or the folder holds
            something else or can't be written.
        Kd3dError: a worker was killed.
    """
    # Absolute, for machines of a cluster and for a run from elsewhere that goes on.
    bags, out = [bag.resolve() for bag in bags], out.resolve()
    folder = WorkFolder(out)
    _check_out(folder)
    with quiet_readers():
        return _extract(bags, folder, config, workers, ray_address, check)


def _extract(
    bags: Sequence[Path],
    folder: WorkFolder,
    config: ExtractConfig,
    workers: int,
    ray_address: str,
    check: bool,
) -> Outcome:
    settings = _settings(bags, config)
    digest = settings_digest(settings)
    if not check and _is_complete(folder, digest):
        return Outcome(None)
    plans = _plans(folder, bags, config, settings)
    _refuse_no_frames(plans)
    look = partial(_look_around, folder.unpacked)
    if check:
        unwritten = [_unwritten(plan) for plan in plans]
        report = _report(plans, unwritten, list(map(look, plans)), settings, False)
        _write_report(report, folder.out)
        rmtree(folder.unpacked, ignore_errors=True)
        return Outcome(report)
    blocks = _blocks(plans)
    total = sum(blocks.values())
    work = partial(extract_block, folder, digest)
    kept = sum(size for block, size in blocks.items() if folder.is_done(block))
    with ExitStack() as stack:
        # Looks are had beside the workers, for which this process would only wait.
        beside = ThreadPoolExecutor(1)
        stack.callback(beside.shutdown, cancel_futures=True)
        looks = beside.map(look, plans)
        step = stack.enter_context(progress_of("extracting", total))
        done = work_through(work, [*blocks], folder.path, folder.is_done, workers, ray_address)
        for _, size in zip(done, blocks.values(), strict=True):
            for _ in range(size):
                step()
        seen = list(looks)
    found = [results(folder, number, plan) for number, plan in enumerate(plans)]
    with claimed(folder.path, "complete", wait=True):
        written = [frames for frames, _ in found]
        complete_sets(folder, plans, written, settings, config.val_share)
        report = _report(plans, found, seen, settings, True)
        _write_report(report, folder.out)
        rmtree(folder.unpacked, ignore_errors=True)
        write_whole(_mark(folder), digest.encode())
    return Outcome(report, kept)


def _blocks(plans: Sequence[RecordingPlan]) -> dict[str, int]:
    """Names of all blocks, and how many frames are in each."""
    return {
        block: block_size(block, len(plan.frames))
        for number, plan in enumerate(plans)
        for block in block_names(number, len(plan.frames))
    }


def _check_out(folder: WorkFolder) -> None:
    """Refuse a folder that holds something else."""
    out = folder.out
    if out.exists() and not out.is_dir():
        raise DataError(f"{out} is a file: give another folder")
    if out.is_dir() and not folder.path.is_dir():
        others = sorted(path.name for path in out.iterdir() if path.name not in REPORT_NAMES)
        if others:
            raise DataError(
                f"{out} holds something that kd3d-extract didn't make ({listed(others, 3)}): give "
                "another folder"
            )


def _settings(bags: Sequence[Path], config: ExtractConfig) -> dict[str, Any]:
    """What the output depends on: settings, version, and the recordings' files."""
    return {
        "version": __version__,
        "format": FORMAT,
        "settings": plain(config),
        "extrinsics": [read_extrinsics(file).tolist() for file in config.extrinsics],
        "files": {str(bag): list(_files(bag)) for bag in bags},
    }


def _files(bag: Path) -> Iterator[list[Any]]:
    """Name, size and time of a recording's files."""
    if not bag.exists():
        raise DataError(f"{bag}: there is no such bag")
    paths = [path for path in sorted(bag.iterdir()) if path.is_file()] if bag.is_dir() else [bag]
    for path in paths:
        facts = path.stat()
        yield [path.name, facts.st_size, facts.st_mtime_ns]


def _mark(folder: WorkFolder) -> Path:
    return folder.path / "complete"


def _is_complete(folder: WorkFolder, digest: str) -> bool:
    mark = _mark(folder)
    return mark.is_file() and mark.read_text() == digest


def _plans(
    folder: WorkFolder, bags: Sequence[Path], config: ExtractConfig, settings: dict[str, Any]
) -> list[RecordingPlan]:
    """The plans that an earlier run of the same settings has made, or new ones."""
    if folder.settings.is_file():
        if read_json(folder.settings) == settings:
            return [load_plan(folder.plan(number)) for number in range(len(bags))]
        if (folder.path / "blocks").is_dir():
            raise DataError(
                f"{folder.out} holds frames of other recordings or settings (they stand in "
                f"{folder.settings}): give the same ones, or another folder"
            )
    plans = []
    with ExitStack() as stack:
        readers = [stack.enter_context(BagReader(bag, folder.unpacked)) for bag in bags]
        topics = [choose_topics(reader, config) for reader in readers]
        names = set_names(
            list(dict.fromkeys(camera.images for each in topics for camera in each.cameras))
        )
        first = 0
        for number, (reader, chosen) in enumerate(zip(readers, topics, strict=True)):
            with _reading(reader, chosen) as step:
                plan = plan_recording(reader, chosen, names, config, first, step)
            save_plan(folder.plan(number), plan)
            plans.append(plan)
            first += 1 + max((int(ref.name) for ref in plan.frames), default=first - 1) - first
    write_json(folder.settings, settings)
    return plans


def _reading(
    reader: BagReader, topics: RecordingTopics
) -> AbstractContextManager[Callable[[], None]]:
    names = topics.payloads | topics.infos
    return progress_of(f"reading {reader.path}", sum(reader.topics[name].count for name in names))


def _refuse_no_frames(plans: Sequence[RecordingPlan]) -> None:
    if any(plan.frames for plan in plans):
        return
    reasons = []
    for plan in plans:
        for camera in plan.cameras:
            for topic, tally in camera.tallies.items():
                for reason, count in {**tally.skipped, **tally.rejected}.items():
                    reasons.append(f"{count} on {topic} {reason}")
    paths = listed([plan.path for plan in plans], 3)
    raise DataError(f"{paths}: not one frame can be extracted: {listed(reasons, 6)}")


def _unwritten(plan: RecordingPlan) -> tuple[list[Written], list[FaultyFrame]]:
    """The frames of a plan as far as they are known before they are made."""
    row: dict[str, Any] = {
        "points": 0, "dropped": {}, "motion": "", "in_image": None, "labels": None,
        "label_fault": "", "focal_px": None, "height_m": None, "files": [],
    }  # fmt: skip
    return [Written(ref, camera, row) for ref in plan.frames for camera in ref.images], []


def _report(
    plans: Sequence[RecordingPlan],
    found: Sequence[tuple[list[Written], list[FaultyFrame]]],
    looks: Sequence[dict[int, list[Look]]],
    settings: dict[str, Any],
    extracted: bool,
) -> ExtractReport:
    recordings = [
        recording_report(plan, written, faulty, seen)
        for plan, (written, faulty), seen in zip(plans, found, looks, strict=True)
    ]
    return ExtractReport(tuple(recordings), settings["settings"], __version__, extracted)


# What draws is loaded while the workers have begun already.


def _look_around(unpacked: Path, plan: RecordingPlan) -> dict[int, list[Look]]:
    from kd3d_core.extract.looks import look_around

    return look_around(plan, unpacked)


def _write_report(report: ExtractReport, out: Path) -> None:
    from kd3d_core.extract.report import write_report

    write_report(report, out)
