"""`kd3d-eval check`: whether the calibration of a data set fits its images, points and labels."""

from pathlib import Path
from typing import TYPE_CHECKING

from kd3d_core.cli.frames import frame_slice
from kd3d_core.errors import DataError, Kd3dError

if TYPE_CHECKING:
    import numpy as np

    from kd3d_core.data.calibration_check import CalibrationSample, Finding
    from kd3d_core.data.kitti import KittiFrame


def check(
    root: Path,
    *,
    frames: str = ":",
    every: int = 1,
    html: Path | None = None,
    png: Path | None = None,
    pictures: int = 6,
) -> int:
    """Check calibrations: images resized later, turned LiDAR axes, a road above the horizon.

    The exit status is 1 if something looks wrong in a tenth of the frames or more, or frames can't
    be read.

    Args:
        root: data set in KITTI's layout, or its `training` folder.
        frames: range of the frames, as a:b, counted from 0 and without b; all by default.
        every: look at each n-th of them only.
        html: file for a page with LiDAR points and labels drawn on some images.
        png: folder for the same pictures.
        pictures: number of pictures, of frames spread evenly.
    """
    from kd3d_core.data.calibration_check import check_calibration, common_findings, kitti_sample
    from kd3d_core.data.kitti import KittiDataset
    from kd3d_core.progress import progress_of

    if every < 1 or pictures < 1:
        raise Kd3dError("--every and --pictures must be at least 1")
    dataset = KittiDataset(root)
    names = dataset.names[frame_slice(frames)][::every]
    if not names:
        raise DataError(f"--frames {frames} selects none of the {len(dataset)} frames in {root}")
    checked: list[str] = []
    findings: list[list[Finding]] = []
    unreadable: list[str] = []
    drawn: list[tuple[str, np.ndarray]] = []
    with progress_of("checking calibrations", len(names)) as step:
        for index, name in enumerate(names):
            frame = dataset.frame(name)
            try:
                sample = kitti_sample(frame)
                # Frame 0, and wherever the next of `pictures` equal parts begins.
                if index * pictures // len(names) != (index - 1) * pictures // len(names):
                    drawn.append((name, _picture(frame, sample)))
                findings.append(check_calibration(sample))
                checked.append(name)
            except Kd3dError as error:
                unreadable.append(str(error))
            step()
    lines = common_findings(findings, checked, 0.1) if checked else []
    rare = len(common_findings(findings, checked, 0)) - len(lines) if checked else 0
    if unreadable:
        lines.append(f"{len(unreadable)} frames can't be read, the first: {unreadable[0]}")
    print(f"{root}: {len(checked)} of {len(dataset)} frames checked")
    for line in lines or ["nothing looks wrong"]:
        print(f"  {line}")
    if rare:
        print(f"  ({rare} kinds of findings in less than a tenth of the frames aren't counted)")
    if png is not None:
        _write_pictures(png, drawn)
    if html is not None:
        _write_page(html, root, lines, len(checked), drawn)
    return 1 if lines else 0


def _picture(frame: "KittiFrame", sample: "CalibrationSample") -> "np.ndarray":
    from kd3d_core.visual.colors import TRUTH_COLOR
    from kd3d_core.visual.image import draw_boxes
    from kd3d_core.visual.points import draw_points

    picture = frame.image()
    if sample.points is not None:
        draw_points(picture, sample.points, sample.camera)
    if sample.boxes is not None:
        colors = [TRUTH_COLOR] * len(sample.boxes)
        draw_boxes(picture, sample.boxes, sample.camera, colors, filled=False)
    return picture


def _write_pictures(folder: Path, drawn: "list[tuple[str, np.ndarray]]") -> None:
    import cv2

    from kd3d_core.files import write_whole

    for name, picture in drawn:
        write_whole(folder / f"{name}.png", cv2.imencode(".png", picture[..., ::-1])[1].tobytes())


def _write_page(
    path: Path, root: Path, lines: list[str], count: int, drawn: "list[tuple[str, np.ndarray]]"
) -> None:
    from kd3d_core.visual.page import Column, Frame, Page, Picture, Section, Strip, write_page

    frames = tuple(
        Frame(name, (Column((Picture.encode(picture, f"LiDAR points on image {name}"),)),))
        for name, picture in drawn
    )
    parts = (Strip(frames, rate_hz=1.0),) if frames else ()
    text = "Points must lie on what they belong to: on edges of cars, poles and the road."
    page = Page(
        title="Calibration check",
        lead=str(root),
        facts=(("frames checked", str(count)), ("findings", str(len(lines)))),
        sections=[Section("LiDAR points and labels on images", parts, text)],
        warning="; ".join(lines),
    )
    write_page(path, page)
