"""What completes a data set once all of its frames are there: lists, `meta.json`, checksums."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kd3d_core.data.point_layout import KITTI_POINTS
from kd3d_core.extract.plan import RecordingPlan
from kd3d_core.extract.splitting import split_by_time
from kd3d_core.extract.work import WorkFolder, Written
from kd3d_core.files import write_json, write_whole

FORMAT = 1
"""Of the output and of what is kept of a run's progress; to be raised when either changes."""
CHECKSUMS = "checksums.sha256"


def camera_names(plans: Sequence[RecordingPlan]) -> list[str]:
    """Names of all cameras' folders, in the order in which they are first met."""
    return list(dict.fromkeys(camera.camera.name for plan in plans for camera in plan.cameras))


def complete_sets(
    folder: WorkFolder,
    plans: Sequence[RecordingPlan],
    written: Sequence[Sequence[Written]],
    settings: dict[str, Any],
    val_share: float,
) -> None:
    """Write what belongs to each camera's data set as a whole; `meta.json` is the last of it.

    Args:
        folder: of the run.
        plans: of each recording.
        written: frames of each recording.
        settings: what is said of the extraction as a whole.
        val_share: of the frames that should validate.
    """
    remove_partial_files(folder.out)
    for name in camera_names(plans):
        frames = [
            [each for each in part if plan.cameras[each.camera].camera.name == name]
            for plan, part in zip(plans, written, strict=True)
        ]
        _complete_set(folder.set_folder(name), name, plans, frames, settings, val_share)


def _complete_set(
    root: Path,
    camera: str,
    plans: Sequence[RecordingPlan],
    frames: Sequence[Sequence[Written]],
    settings: dict[str, Any],
    val_share: float,
) -> None:
    drives = drive_names(plans)
    stamped = {
        drive: [(each.ref.name, _stamp_ns(each)) for each in part]
        for drive, part in zip(drives, frames, strict=True)
    }
    lists = dict(zip(("train", "val"), split_by_time(stamped, val_share), strict=True))
    for name, members in lists.items():
        write_whole(root / "ImageSets" / f"{name}.txt", _lines(members))
    sums = [
        f"{file.sha256}  {file.path}" for part in frames for each in part for file in each.files
    ]
    write_whole(root / CHECKSUMS, _lines(sums))
    meta = {
        "source": "kd3d-extract",
        "format": FORMAT,
        **settings,
        "points": KITTI_POINTS.to_meta(),
        "recordings": [
            _recording(plan, drive, camera) for plan, drive in zip(plans, drives, strict=True)
        ],
        "camera": _camera([each for part in frames for each in part]),
        "drives": {drive: [name for name, _ in part] for drive, part in stamped.items()},
        "frames": dict(_frames(drives, frames)),
    }
    write_json(root / "meta.json", meta)


def drive_names(plans: Sequence[RecordingPlan]) -> list[str]:
    """A name for each recording, that of its file or folder, told apart by a number if need be."""
    names: list[str] = []
    for plan in plans:
        stem = Path(plan.path).resolve().name
        name, number = stem, 2
        while name in names:
            name, number = f"{stem}-{number}", number + 1
        names.append(name)
    return names


def _recording(plan: RecordingPlan, drive: str, camera: str) -> dict[str, Any]:
    about = {
        "name": drive,
        "path": plan.path,
        "start_ns": plan.start_ns,
        "end_ns": plan.end_ns,
        "stopped": plan.stopped,
        "points_topic": plan.topics.points,
        "labels_topic": plan.topics.labels,
        "points_frame": plan.points_frame,
    }
    for planned in plan.cameras:
        if planned.camera.name == camera:
            about |= {
                "image_topic": planned.camera.topics.images,
                "info_topic": planned.camera.topics.infos,
                "rectified_before": planned.rectified,
                "detector_from_lidar": planned.detector_from_lidar.tolist(),
                "max_offset_s": planned.max_offset_s,
            }
    return about


def _camera(frames: Sequence[Written]) -> dict[str, Any]:
    """What models want to know of a camera: medians, and the sizes of its images."""
    if not frames:
        return {}
    return {
        "height_m": round(float(np.median([each.row["height_m"] for each in frames])), 4),
        "focal_px": float(np.median([each.row["focal_px"] for each in frames])),
        "sizes": sorted({tuple(each.row["size"]) for each in frames}),
    }


def _frames(
    drives: Sequence[str], frames: Sequence[Sequence[Written]]
) -> Iterator[tuple[str, dict[str, Any]]]:
    for drive, part in zip(drives, frames, strict=True):
        for each in part:
            image_ns = each.ref.images[each.camera].message.stamp_ns
            yield (
                each.ref.name,
                {
                    "recording": drive,
                    "stamp_ns": _stamp_ns(each),
                    "image_stamp_ns": image_ns,
                    "offset_s": (image_ns - _stamp_ns(each)) / 1e9,
                    "points": each.row["points"],
                    "labels": each.row["labels"],
                },
            )


def _stamp_ns(frame: Written) -> int:
    scan = frame.ref.scan
    return scan.stamp_ns if scan is not None else frame.ref.images[frame.camera].message.stamp_ns


def _lines(words: Sequence[str]) -> bytes:
    return "".join(f"{word}\n" for word in words).encode()


def remove_partial_files(out: Path) -> None:
    """Remove what killed processes left of files that they were writing.

    Only once nothing is left to be written, as others may be at it before.
    """
    for path in out.rglob("*.part"):
        path.unlink(missing_ok=True)
