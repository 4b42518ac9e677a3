"""`kd3d-extract`: training data from recordings, without ROS."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from kd3d_core.cli.app import exit_on_sigterm, run
from kd3d_core.errors import DataError, Kd3dError

if TYPE_CHECKING:
    from kd3d_core.extract.summary import CameraReport, ExtractReport


def extract(
    bags: list[str],
    *,
    out: Path,
    image: list[str] = [],  # noqa: B006 - never changed; the parser wants a list
    camera_info: list[str] = [],  # noqa: B006
    points: str = "",
    labels: str = "",
    clock: Literal["header", "record"] = "header",
    max_offset: float | None = None,
    every: int = 1,
    min_motion: float = 0.0,
    image_bits: int = 16,
    rectified: Literal["auto", "yes", "no"] = "auto",
    extrinsics: list[str] = [],  # noqa: B006
    as_measured: bool = False,
    camera_height: float | None = None,
    val_share: float = 0.2,
    workers: int = 0,
    ray: str = "",
    check: bool = False,
) -> int:
    """Extract recordings into a data set in KITTI's layout, one for each camera, and a report.

    Args:
        bags: rosbag2 folders, or .mcap, .db3 or ROS 1 .bag files.
        out: folder of the data set; of a folder for each camera where there are several.
        image: topics of images, a camera each; default: all that have a CameraInfo beside them.
        camera_info: their CameraInfos, in the same order; default: those beside the images.
        points: the LiDAR's PointCloud2; default: the only one. Without any, images are extracted.
        labels: Detection3DArray that becomes label_2; default: the only one.
        clock: source of the time of measurement, the messages' headers or the recording.
        max_offset: seconds from a scan to its image, at most; default: half the camera's period.
        every: take each N-th scan only (image, where there is no LiDAR).
        min_motion: metres that the robot must have moved since the last frame, by /tf or odometry.
        image_bits: bits that a camera uses of images with 16, such as 12 of mono16, where they are
            not scaled to all.
        rectified: whether the images are rectified already; auto: as their topic and CameraInfo
            tell.
        extrinsics: a file for each camera that says where it is in the LiDAR's frame; default: the
            recording's transforms.
        as_measured: leave points where they were measured; by default they are moved to where they
            would have been at the time of the image, where /tf or odometry tell.
        camera_height: metres over the ground. With it, clouds are moved up or down so that the
            ground lies at z = -1.73, where models expect it; without a LiDAR the default is 1.65.
        val_share: share of the frames that is for validation.
        workers: processes; 0 for one per CPU.
        ray: address of a Ray cluster that works instead; auto for the one that runs here.
        check: write the report only.
    """
    from kd3d_core.extract.config import ExtractConfig

    config = ExtractConfig(
        images=tuple(image),
        infos=tuple(camera_info),
        points=points,
        labels=labels,
        clock=clock,
        max_offset_s=max_offset,
        every=every,
        min_motion_m=min_motion,
        image_bits=image_bits,
        rectified={"auto": None, "yes": True, "no": False}[rectified],
        extrinsics=tuple(str(Path(file).expanduser()) for file in extrinsics),
        correct_motion=not as_measured,
        camera_height_m=camera_height,
        val_share=val_share,
    )
    if workers < 0:
        raise Kd3dError(f"--workers {workers}: give 0 or more")
    paths = [Path(bag).expanduser() for bag in bags]
    missing = [path for path in paths if not path.exists()]
    if missing:
        raise DataError(f"{missing[0]}: there is no such bag")
    if len({path.resolve() for path in paths}) < len(paths):
        raise DataError("a bag is given twice")
    if ray:
        from kd3d_core.workers import require_ray

        require_ray()

    from kd3d_core.memory import keep_freed_memory

    workers = workers or len(os.sched_getaffinity(0))
    keep_freed_memory()
    if workers > 1 and not ray and not check:
        from kd3d_core.workers import start_early

        start_early("kd3d_core.extract.work")
    from kd3d_core.extract import run as extraction

    with exit_on_sigterm():
        outcome = extraction.extract(
            paths,
            out.expanduser(),
            config,
            workers=workers,
            ray_address=ray,
            check=check,
        )
    if outcome.report is None:
        print(f"{out}: all of it was extracted before")
        return 0
    if outcome.kept:
        print(f"{outcome.kept} frames are of an earlier run")
    _print(outcome.report)
    print(f"{out / 'report.html'} shows samples and all reasons")
    return 0 if outcome.report.frame_count else 1


def _print(report: "ExtractReport") -> None:
    for recording in report.recordings:
        if recording.stopped:
            print(f"{recording.path}: {recording.stopped}")
        for doubt in recording.doubts:
            print(f"{recording.path}: {doubt}")
        for camera in recording.cameras:
            _print_camera(recording.path, camera, report.extracted)


def _print_camera(path: str, camera: "CameraReport", extracted: bool) -> None:
    what = "frames" if extracted else "frames would be extracted"
    name = f" of {camera.camera.name}" if camera.camera.name else ""
    print(f"{path}: {len(camera.frames)} {what}{name}")
    for topic, tally in camera.tallies.items():
        print(f"  {topic}: {tally.total} messages, {tally.used} used")
        for kind, reasons in (("skipped", tally.skipped), ("rejected", tally.rejected)):
            for reason, count in sorted(reasons.items(), key=lambda item: -item[1]):
                print(f"    {count} {kind}: {reason}")
    for doubt in camera.doubts:
        print(f"  {doubt}")


def main() -> int:
    """Entry point."""
    return run(
        extract,
        prog="kd3d-extract",
        description=(
            "Make a data set of recordings: images matched to LiDAR scans, rectified, with "
            "calibration, labels where there are any, lists for training and validation, checksums "
            "and a report in which each message is accounted for. The same command goes on after "
            "an interruption."
        ),
        examples=[
            "kd3d-extract drive.mcap --out data/site",
            "kd3d-extract monday/ tuesday/ --out data/site --every 5 --min-motion 0.5 --workers 8",
            "kd3d-extract drive.bag --out data/site --image /front/image_raw /rear/image_raw "
            "--points /ouster/points",
            "kd3d-extract drive.mcap --out data/site --clock record --max-offset 0.03 --check",
            "kd3d-extract drive.mcap --out data/site --extrinsics rig.yaml --camera-height 0.9",
        ],
    )


if __name__ == "__main__":
    sys.exit(main())
