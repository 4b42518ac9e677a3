"""`kd3d-synth`: driving scenes made up from a seed, in KITTI's layout or as a bag."""

import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from kd3d_core.cli.app import exit_on_sigterm, run
from kd3d_core.errors import Kd3dError

if TYPE_CHECKING:
    from kd3d_core.data.synthetic.dataset import SynthConfig


def synth(
    *,
    frames: int,
    out: Path | None = None,
    bag: Path | None = None,
    seed: int = 0,
    sequence: bool = False,
    workers: int = 0,
    width: int = 1242,
    height: int = 375,
    fx: float = 721.5377,
    fy: float | None = None,
    cx: float | None = None,
    cy: float | None = None,
    camera_height: float = 1.65,
    pitch: float = 0.0,
    roll: float = 0.0,
    vary_height: float = 0.0,
    vary_pitch: float = 0.0,
    vary_roll: float = 0.0,
    vary_focal: float = 0.0,
    streets: Literal["plain", "varied"] = "plain",
    distortion: list[str] = [],  # noqa: B006 - never changed; the parser wants a list
    lidar_field: float = 90.0,
    lidar_step: float = 0.1728,
    lidar_noise: float = 0.02,
    overwrite: bool = False,
) -> None:
    """Render driving scenes: camera image, LiDAR scan, calibration and labels.

    Scenes are independent of each other unless --sequence is given. What a seed makes does not
    depend on the number of frames (but in a sequence) or of workers.

    Args:
        frames: how many.
        out: folder for a data set in KITTI's layout; frames that it has already are kept.
        bag: folder of a bag to write, besides or instead; of a drive with `/tf`, where it went.
        seed: the same seed makes the same bytes.
        sequence: one drive at 10 Hz, instead of a scene of its own for each frame. Beside its
            frames are tracks.txt, labels with ids as in KITTI's tracking set, and poses.txt, where
            the camera was, as in KITTI's odometry set.
        workers: processes; 0 for one per CPU.
        width: image width in pixels.
        height: image height in pixels.
        fx: horizontal focal length in pixels.
        fy: vertical focal length; default: fx.
        cx: column of the principal point; default: KITTI's, in proportion to the width.
        cy: row of the principal point; default: KITTI's, in proportion to the height.
        camera_height: height of the camera over the road in metres.
        pitch: degrees that the camera looks down.
        roll: degrees that it leans to the right.
        vary_height: largest difference of its height between scenes, in metres.
        vary_pitch: standard deviation of its pitch between scenes, in degrees.
        vary_roll: the same of its roll.
        vary_focal: largest difference of its focal length between scenes, as a share.
        streets: plain ones of houses and gardens, or varied ones, which are nearer to real ones.
        distortion: k1 k2 p1 p2 k3 (plumb_bob) of a raw, unrectified image; for bags only.
        lidar_field: degrees of azimuth that the LiDAR scans ahead, up to 360.
        lidar_step: degrees of azimuth between its shots.
        lidar_noise: standard deviation of its range in metres.
        overwrite: replace a bag of that name.
    """
    from kd3d_core.data.synthetic.dataset import SynthConfig
    from kd3d_core.data.synthetic.lidar import LidarConfig
    from kd3d_core.data.synthetic.render import render
    from kd3d_core.data.synthetic.rig import CameraConfig, RigVariation
    from kd3d_core.data.synthetic.tracks import write_tracks

    if out is None and bag is None:
        raise Kd3dError("nothing to write: give --out FOLDER, --bag FOLDER, or both")
    if bag is not None and bag.exists() and not overwrite:
        raise Kd3dError(f"{bag} exists already: give another name, or --overwrite")
    if distortion and out is not None:
        raise Kd3dError(
            "--distortion: KITTI's layout holds rectified images only: give --bag without --out"
        )
    default = CameraConfig()
    camera = CameraConfig(
        width=width,
        height=height,
        fx=fx,
        fy=fx if fy is None else fy,
        cx=default.cx * width / default.width if cx is None else cx,
        cy=default.cy * height / default.height if cy is None else cy,
        mount_height=camera_height,
        pitch_deg=pitch,
        roll_deg=roll,
        distortion=tuple(_number(word) for word in distortion),
    )
    lidar = LidarConfig(azimuth_step=lidar_step, field=lidar_field, range_noise=lidar_noise)
    variation = RigVariation(vary_height, vary_pitch, vary_roll, vary_focal)
    config = SynthConfig(frames, seed, sequence, camera, lidar, variation, streets)
    with ExitStack() as stack:
        stack.enter_context(exit_on_sigterm())
        folder = out
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kd3d-synth-")))
        render(config, folder, workers)
        if sequence and out is not None:
            write_tracks(config, out)
        if out is not None:
            print(f"{out}: {frames} frames")
        if bag is not None:
            _write_bag(config, folder, bag, overwrite)


def _write_bag(config: "SynthConfig", folder: Path, bag: Path, overwrite: bool) -> None:
    from kd3d_core.data.kitti import KittiDataset
    from kd3d_core.data.kitti_bag import write_kitti_bag
    from kd3d_core.data.synthetic.dataset import RATE_HZ, frame_names, frame_rig, sequence_drive

    dataset = KittiDataset(folder, frame_names(config))
    lens = frame_rig(config, 0).distortion
    poses = None
    if config.sequence:
        drive = sequence_drive(config)
        poses = [drive.pose(index / RATE_HZ) for index in range(config.frames)]
    counts = write_kitti_bag(dataset, bag, RATE_HZ, overwrite, distortion=lens, poses=poses)
    written = ", ".join(f"{topic} {count}" for topic, count in counts.items())
    print(f"{bag}: {config.frames} frames at {RATE_HZ:g} Hz: {written}")


def _number(word: str) -> float:
    try:
        return float(word)
    except ValueError:
        raise Kd3dError(f"--distortion {word}: write numbers, k1 k2 p1 p2 k3") from None


def main() -> int:
    """Entry point."""
    return run(
        synth,
        prog="kd3d-synth",
        description="Make up driving scenes: camera image, LiDAR scan, calibration and labels.",
        examples=[
            "kd3d-synth --out data/synth --frames 2000 --seed 1",
            "kd3d-synth --out data/drive --frames 100 --seed 7 --sequence --workers 2",
            "kd3d-synth --bag out/drive --frames 50 --seed 7 --sequence",
            "kd3d-synth --out data/cars --frames 2000 --streets varied --vary-pitch 0.7",
            "kd3d-synth --out data/robot --frames 500 --width 640 --height 480 --fx 520 "
            "--camera-height 0.8",
            "kd3d-synth --bag out/raw --frames 20 --distortion -0.30 0.09 0 0 0",
        ],
    )


if __name__ == "__main__":
    sys.exit(main())
