"""Folders of KITTI label and detection files, frame by frame."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kd3d_core.data.kitti import KittiDataset
from kd3d_core.data.labels import Label, read_detections, read_labels, to_judge, unusable
from kd3d_core.errors import DataError
from kd3d_core.files import files_in


@dataclass(frozen=True)
class LabelledFrames:
    """Labels and detections of the same frames.

    Attributes:
        ground_truth: labels of each, `DontCare` included; see `labels.to_judge`. If the folder is
            the `label_2` of a data set, objects without a 2D box have that of their 3D box.
        without_file: frames that have no detection file, which counts as no detections.
        left_out: detection files that belong to none of the frames.
        unusable: why labels are ignored, with their number; see `labels.unusable`.
    """

    names: tuple[str, ...]
    ground_truth: list[list[Label]]
    detections: list[list[Label]]
    without_file: tuple[str, ...]
    left_out: tuple[str, ...]
    unusable: Counter[str] = field(default_factory=Counter)

    @property
    def has_ground_dont_care(self) -> bool:
        """Whether `DontCare` areas reach detections on the ground, see `share_in_dont_care`."""
        return any(
            not label.is_object and min(label.dimensions[1:]) < -1
            for frame in self.ground_truth
            for label in frame
        )


def read_frames(
    labels: Path, detections: Path, names: Sequence[str] | None = None
) -> LabelledFrames:
    """Read the frames to evaluate.

    >>> from tempfile import TemporaryDirectory
    >>> car = "Car 0 0 0  0 0 50 50  1.5 1.6 4.0  2.0 1.7 20.0  0"
    >>> with TemporaryDirectory() as folder:
    ...     labels, detections = Path(folder, "labels"), Path(folder, "detections")
    ...     labels.mkdir()
    ...     detections.mkdir()
    ...     _ = (labels / "000000.txt").write_text(car)
    ...     frames = read_frames(labels, detections)
    >>> frames.names, len(frames.ground_truth[0]), frames.without_file
    (('000000',), 1, ('000000',))

    Args:
        detections: folder with one `.txt` per frame that has detections.
        names: the frames; default: all label files.

    Raises:
        DataError: a folder or label file is missing, no detection file belongs to any frame
            although there are some, or a line is wrong: file, line and field are named.
    """
    label_files, detection_files = _files(labels, "label"), _files(detections, "detection")
    if not label_files:
        inside = labels / "label_2"
        hint = f"; did you mean {inside}?" if inside.is_dir() else ""
        raise DataError(f"{labels}: no label file (*.txt) in this folder{hint}")
    frames = tuple(sorted(label_files) if names is None else names)
    if unlabelled := [name for name in frames if name not in label_files]:
        raise DataError(
            f"{labels}: {len(unlabelled)} of {len(frames)} frames have no label file, the first "
            f"is {labels / unlabelled[0]}.txt"
        )
    without_file = tuple(name for name in frames if name not in detection_files)
    if detection_files and len(without_file) == len(frames):
        raise DataError(
            f"{detections}: none of its {len(detection_files)} files has the name of one of the "
            f"{len(frames)} frames, such as {frames[0]}.txt"
        )
    labelled = _read_labels(labels, label_files, frames)
    return LabelledFrames(
        frames,
        [to_judge(frame) for frame in labelled],
        [
            read_detections(detection_files[name]) if name in detection_files else []
            for name in frames
        ],
        without_file,
        tuple(sorted(set(detection_files) - set(frames))),
        sum((unusable(frame) for frame in labelled), Counter()),
    )


def _read_labels(folder: Path, files: dict[str, Path], names: Sequence[str]) -> list[list[Label]]:
    """Labels of the frames, with what image and calibration beside the folder tell of them."""
    if folder.resolve().name != "label_2":
        return [read_labels(files[name]) for name in names]
    dataset = KittiDataset(folder.resolve().parent)
    return [dataset.frame(name).labels() for name in names]


def _files(folder: Path, what: str) -> dict[str, Path]:
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder of {what} files")
    return {path.stem: path for path in files_in(folder, (".txt",))}
