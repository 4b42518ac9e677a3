"""Real frames without their calibration: with EXIF distances are as with it, with a guess not."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.ExifTags import Base as ExifTag

from kd3d_core.data.kitti import KittiDataset
from kd3d_core.geometry.camera import PinholeCamera
from kd3d_core.offline.inputs import InputSettings, find_source
from kd3d_core.offline.placing import Placer
from kd3d_core.runtime.detections import Detections
from kd3d_core.runtime.pipeline import CameraDetector

FRAMES = slice(0, 15, 5)
IN_35MM = 24  # of KITTI's cameras, in whole millimetres as EXIF has them
SCORE = 0.3


def ratios(
    found: Detections, camera: PinholeCamera, expected: Detections, right: PinholeCamera
) -> list[float]:
    """Distances of boxes by those of the same ones with the right calibration."""
    answers = []
    places, _ = camera.project(found.boxes[:, :3].astype(np.float64))
    for box, score in zip(expected.boxes, expected.scores, strict=True):
        place, _ = right.project(box[None, :3].astype(np.float64))
        off = np.hypot(*(places - place).T)
        if score > SCORE and len(off) and off.min() < 30:
            answers.append(float(np.hypot(*found.boxes[off.argmin(), :2]) / np.hypot(*box[:2])))
    return answers


@pytest.fixture(scope="module")
def detector() -> CameraDetector:
    return CameraDetector.from_config("streets", "cpu", "fp32")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory, tracking: KittiDataset) -> Path:
    """Some of the frames as photos of a camera that notes its lens."""
    folder = tmp_path_factory.mktemp("photos")
    for frame in list(tracking)[FRAMES]:
        exif = Image.Exif()
        exif.get_ifd(ExifTag.ExifOffset)[ExifTag.FocalLengthIn35mmFilm] = IN_35MM
        Image.fromarray(frame.image()).save(folder / f"{frame.name}.jpg", exif=exif, quality=95)
    return folder


def compared(
    detector: CameraDetector, folder: Path, kitti: KittiDataset, hfov_deg: float | None
) -> np.ndarray:
    source = find_source([str(folder)], InputSettings(slice(None), hfov_deg=hfov_deg))
    assert source.place is not None
    placer = Placer(detector, None, source.place)
    answers = []
    for reference, truth in zip(source.references, list(kitti)[FRAMES], strict=True):
        frame = placer(reference.load())
        expected = detector(truth.image(), truth.camera())
        found = detector(frame.image, frame.camera)
        answers += ratios(found, frame.camera, expected, truth.camera())
    return np.array(answers)


def test_with_exif_distances_are_within_15_percent(detector, photos, tracking) -> None:
    answers = compared(detector, photos, tracking, None)
    assert len(answers) >= 5
    assert np.abs(answers - 1).max() < 0.15


def test_a_wrong_field_of_view_is_seen_in_the_distances(detector, photos, tracking) -> None:
    answers = compared(detector, photos, tracking, 60.0)  # a guess; 81 are right
    assert len(answers) >= 3
    assert np.median(answers) > 1.2
