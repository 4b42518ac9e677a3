"""`kd3d-detect`: detect in pictures, videos, cameras and bags, without ROS."""

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kd3d_core.cli.app import exit_on_sigterm, run
from kd3d_core.cli.frames import frame_slice
from kd3d_core.devices import Precision
from kd3d_core.errors import DataError, Kd3dError

if TYPE_CHECKING:
    from kd3d_core.offline.inputs import InputSettings
    from kd3d_core.offline.run import Outcome
    from kd3d_core.offline.sinks import Sink
    from kd3d_core.offline.source import Source


def detect(
    inputs: list[str],
    *,
    kitti: Path | None = None,
    png: Path | None = None,
    mp4: Path | None = None,
    bag: Path | None = None,
    bag_images: bool = False,
    html: Path | None = None,
    rerun: Path | None = None,
    tracks: Path | None = None,
    track: bool = False,
    poses: Path | None = None,
    show: bool = False,
    model: str = "streets",
    device: str = "auto",
    precision: Precision = "auto",
    score_threshold: float | None = None,
    all_boxes: bool = False,
    frames: str = ":",
    every: int = 1,
    watch: bool = False,
    results: Path = Path("out/detect"),
    overwrite: bool = False,
    rate: float = 10.0,
    calib: Path | None = None,
    intrinsics: list[str] = [],  # noqa: B006 - never changed; the parser wants a list
    hfov: float | None = None,
    camera_height: float | None = None,
    pitch: float | None = None,
    raw_images: bool = False,
    image_topic: str = "",
    info_topic: str = "",
    detector_frame: str = "",
) -> int:
    """Detect in pictures, a video, a camera or a bag, and give out what was found.

    Args:
        inputs: images and folders of images; a video (MP4, MKV, MOV, AVI and others); a camera (0,
            /dev/video0); an address (rtsp, http); a bag; or a folder in KITTI's layout.
        kitti: folder for a text file per frame in KITTI's format.
        png: folder for a picture per frame, with boxes, cloud and, where there are any, labels.
        mp4: file for a video of the same pictures, all scaled to the size of the first; H.264 where
            PyAV is installed (pip install av), else VP9.
        bag: folder of a bag with points, detections and markers.
        bag_images: put the images, as they were recorded, their calibration and where the camera is
            into that bag as well, so that RViz or Foxglove shows it alone.
        html: file for a page with pictures to play, latencies, and precision and recall where there
            are labels.
        rerun: file for the Rerun viewer; needs the package rerun-sdk.
        tracks: file of the objects' tracks: .txt in the format of KITTI's tracking set, or .csv
            with velocities. Implies --track.
        track: follow objects over the frames, which must be of one drive and in its order: the
            outputs have ids, velocities and trails. Where the camera was makes it better: a bag's
            /tf or odometry, or --poses.
        poses: file with the camera's pose at each image of a folder, in the format of KITTI's
            odometry set: a line of 12 numbers.
        show: show pictures as they come, with frames per second and latency: in a window where this
            OpenCV has any, else on a page of this machine, whose address is printed.
        model: a name in config/models or weights, or a YAML file.
        device: auto, cpu, cuda or cuda:N.
        precision: number format of the networks; auto suits the device.
        score_threshold: boxes with a lower score are left out; default: the model's own thresholds,
            one for each class. Give 0 to keep all, as files for an evaluation must.
        all_boxes: draw boxes of other classes on the same object too; by default pictures, video
            and page show its best one. The other outputs and all numbers always have all.
        frames: range of the frames, as a:b, counted from 0 and without b; all by default.
        every: step between frames; 3 takes each third one.
        watch: go on with images that come into the folder, until Ctrl-C.
        results: folder that keeps what was detected; a run that was interrupted, or that asks for
            other outputs, takes from it what the same model found in the same images.
        overwrite: replace a bag of that name, and remove other frames' files from the folders.
        rate: frames per second of images that have no stamps.
        calib: calibration of images: KITTI's text, or YAML of ROS's camera_calibration.
        intrinsics: the same in four numbers, FX FY CX CY in pixels.
        hfov: field of view over an image's width, degrees, where there is no calibration; default:
            the focal length of each photo's EXIF, else a guess, which pictures and page say.
        camera_height: metres over the ground, where nothing says where the camera is; default:
            1.65, and without a calibration what the ground in the picture looks like.
        pitch: degrees by which the camera looks down, likewise; default: 0.
        raw_images: the images are not rectified yet; their calibration says how to.
        image_topic: images of a bag, raw or compressed (JPEG, PNG); default: the only one.
        info_topic: CameraInfo of a bag; default: the only one, or the one beside the images.
        detector_frame: frame of the results from a bag, joined to the camera's by /tf_static;
            default: one that is made up under the camera.
    """
    from kd3d_core.models.card import caveat
    from kd3d_core.models.config import load_model_config

    card = load_model_config(model).card
    _check_numbers(rate, score_threshold, every)
    paths = _paths(inputs)

    from kd3d_core.data.video import public_name
    from kd3d_core.offline.inputs import InputSettings, find_source
    from kd3d_core.offline.run import detect_frames
    from kd3d_core.offline.store import ResultStore, model_digest
    from kd3d_core.progress import progress_of
    from kd3d_core.tracking import Tracker
    from kd3d_core.weights import resolve

    for weights in load_model_config(model).weights.values():
        if weights != "random":
            resolve(weights)
    if bag_images and bag is None:
        raise Kd3dError("--bag-images says what --bag OUT holds: give that, too")
    if bag is not None and bag.absolute() in [path.absolute() for path in paths]:
        raise Kd3dError(f"--bag {bag} is the input: give another name")
    for option, folder in (("--kitti", kitti), ("--png", png)):
        if folder is not None and folder.resolve() in _folders_read(paths):
            raise Kd3dError(f"{option} {folder} is where the input lies: give another folder")
    numbers = frame_slice(frames)
    track = track or tracks is not None
    settings = InputSettings(
        slice(numbers.start, numbers.stop, every),
        rate,
        watch,
        calib,
        _pixels(intrinsics),
        hfov,
        camera_height,
        pitch,
        not raw_images,
        image_topic,
        info_topic,
        detector_frame,
        track,
    )
    source = find_source(inputs, settings)
    if poses is not None:
        source = _with_poses(source, poses, settings)
    if source.count == 0:
        raise DataError(f"--frames {frames} selects none of the frames in {inputs[0]}")
    outputs = _Outputs(kitti, png, mp4, bag, bag_images, html, rerun, tracks, show, overwrite)
    facts = {"from": public_name(inputs[0]), "model": model, "trained on": card.trained_on}
    sinks = _sinks(outputs, source, facts)

    # Loads torch: after all that may be wrong.
    from kd3d_core.runtime.pipeline import CameraDetector

    detector = CameraDetector.from_config(model, device, precision)
    store = None  # what a camera has seen comes only once
    if not source.is_live:
        store = ResultStore(results, model_digest(detector.model.config, detector.description))
    with exit_on_sigterm(), progress_of("detecting", source.count) as step:
        outcome = detect_frames(
            source,
            detector,
            store,
            sinks,
            score_threshold,
            step,
            Tracker() if track else None,
            all_boxes=all_boxes,
        )
    _report(outcome, source)
    print(f"the model was trained on: {card.trained_on}")
    if score_threshold is None and card.score_thresholds:
        print(
            f"boxes from these scores on: {card.describe_thresholds()}; an evaluation needs all, "
            "from --score-threshold 0"
        )
    if doubt := caveat(detector.trained, card):
        print(doubt.text)
    if outcome.interrupted and source.count is not None:
        return 130
    return 1 if outcome.bad else 0


def _check_numbers(rate: float, score_threshold: float | None, every: int) -> None:
    if not 1e-3 <= rate <= 1e6:
        raise Kd3dError(f"--rate {rate:g}: give frames per second, from 0.001 to 1000000")
    if score_threshold is not None and not 0 <= score_threshold <= 1:
        raise Kd3dError(f"--score-threshold {score_threshold:g}: scores are between 0 and 1")
    if every < 1:
        raise Kd3dError(f"--every {every}: give 1 or more")


def _paths(inputs: Sequence[str]) -> list[Path]:
    """The inputs that are files and folders; `DataError` if one isn't there."""
    from kd3d_core.data.video import is_live

    paths = [Path(word).expanduser() for word in inputs if not is_live(word)]
    missing = [path for path in paths if not path.exists()]
    if missing:
        raise DataError(f"{missing[0]}: there is no such file or folder")
    return paths


def _with_poses(source: "Source", poses: Path, settings: "InputSettings") -> "Source":
    """The source with the poses of a file."""
    from kd3d_core.offline.poses import with_poses

    if not isinstance(source.references, list):
        raise Kd3dError("--poses is for images in files; a bag has /tf or odometry")
    if not settings.with_poses:
        raise Kd3dError("--poses are for objects that are followed: give --track or --tracks FILE")
    return with_poses(source, poses, settings.wanted)


def _folders_read(paths: Sequence[Path]) -> set[Path]:
    """Where files of the inputs lie, which outputs must not replace."""
    parts = [f"{root}{part}" for root in ("", "training/") for part in ("image_2", "label_2")]
    roots = [path if path.is_dir() else path.parent for path in paths]
    return {(root / part).resolve() for root in roots for part in ("", *parts)}


@dataclass(frozen=True)
class _Outputs:
    kitti: Path | None
    png: Path | None
    mp4: Path | None
    bag: Path | None
    bag_images: bool
    html: Path | None
    rerun: Path | None
    tracks: Path | None
    show: bool
    overwrite: bool


def _sinks(outputs: _Outputs, source: "Source", facts: dict[str, str]) -> "list[Sink]":
    from kd3d_core.offline.rerun_sink import RerunSink
    from kd3d_core.offline.sinks import BagSink, KittiSink, PictureSink
    from kd3d_core.offline.video_sink import VideoSink

    sinks: list[Sink] = []
    if outputs.kitti is not None:
        sinks.append(KittiSink(outputs.kitti, source.names, outputs.overwrite))
    if outputs.png is not None:
        sinks.append(PictureSink(outputs.png, source.names, outputs.overwrite))
    if outputs.mp4 is not None:
        sinks.append(VideoSink(outputs.mp4, source.rate_hz))
    if outputs.bag is not None:
        topics = source.camera_topics if outputs.bag_images else None
        sinks.append(BagSink(outputs.bag, outputs.overwrite, topics))
    if outputs.html is not None:
        from kd3d_core.offline.report_sink import ReportSink

        sinks.append(ReportSink(outputs.html, "kd3d-detect", facts, source.rate_hz))
    if outputs.rerun is not None:
        sinks.append(RerunSink(outputs.rerun))
    if outputs.tracks is not None:
        from kd3d_core.offline.track_sink import TrackSink

        sinks.append(TrackSink(outputs.tracks))
    if outputs.show:
        from kd3d_core.offline.live_sink import LiveSink

        sinks.append(LiveSink(source.is_live))
    if not sinks:
        raise Kd3dError(
            "nothing to write: give any of --kitti, --png, --mp4, --bag, --html, --rerun, "
            "--tracks, --show"
        )
    return sinks


def _pixels(words: Sequence[str]) -> tuple[float, ...]:
    try:
        return tuple(float(word) for word in words)
    except ValueError:
        raise Kd3dError(
            f"--intrinsics {' '.join(words)}: write FX FY CX CY, for example 721.5 721.5 609.6 "
            "172.9"
        ) from None


def _report(outcome: "Outcome", source: "Source") -> None:
    print(f"{outcome.detected} frames detected, {outcome.kept} taken from an earlier run")
    if outcome.interrupted and source.count is not None:
        print("ended by Ctrl-C: the outputs hold these frames; the same command goes on")
    if not outcome.bad:
        return
    reasons = Counter(bad.reason for bad in outcome.bad)
    first = {bad.reason: bad.name for bad in reversed(outcome.bad)}
    print(f"{len(outcome.bad)} frames left out:")
    for reason, count in reasons.most_common():
        print(f"  {count}, the first is {first[reason]}: {reason}")


def main() -> int:
    """Entry point."""
    return run(
        detect,
        prog="kd3d-detect",
        description=(
            "Detect in pictures, a video, a camera or a bag, without ROS. Every answer is kept as "
            "soon as it is there: the same command goes on after an interruption, and the outputs "
            "are made anew of what is kept. Ctrl-C ends it with outputs of what was done. Frames "
            "that can't be used are left out, told at the end, and make the exit status 1."
        ),
        examples=[
            "kd3d-detect ~/kitti/tracking_0001 --kitti out/labels --png out/pictures",
            "kd3d-detect holiday/*.jpg --html out/photos.html",
            "kd3d-detect dashcam.mp4 --every 3 --mp4 out/dashcam.mp4 --show",
            "kd3d-detect 0 --hfov 78 --show",
            "kd3d-detect drive.mcap --bag out/detections --mp4 out/drive.mp4 --html out/drive.html",
            "kd3d-detect drive.mcap --tracks out/tracks.csv --mp4 out/drive.mp4",
            "kd3d-detect data/drive --poses data/drive/poses.txt --tracks out/tracks.txt",
            "kd3d-detect drive.mcap --bag out/with_images --bag-images",
            "kd3d-detect out/bag --detector-frame velodyne --rerun out/drive.rrd",
            "kd3d-detect photos/ --calib front.yaml --raw-images --camera-height 0.6 --png out/png",
            "kd3d-detect a.jpg b.jpg --intrinsics 721.5 721.5 609.6 172.9 --kitti out/labels",
        ],
    )


if __name__ == "__main__":
    sys.exit(main())
