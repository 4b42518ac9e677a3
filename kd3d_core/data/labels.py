"""KITTI's text labels: the one place that reads and writes them and says which can be used.

A label can be learnt and judged if it is a 3D box somewhere near the camera: `Label.flaw` says what
is wrong with one that can't. Training, bags and pictures leave those out (`usable`), evaluation
ignores them (`to_judge`), and all count and name them (`unusable`).
"""

import math
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from kd3d_core.errors import DataError
from kd3d_core.files import read_text, write_whole

CLASSES = (
    "Car", "Van", "Truck", "Pedestrian", "Person_sitting", "Cyclist", "Tram", "Misc",
)  # fmt: skip
"""KITTI's classes. Files may write them, and `DontCare`, in any case."""

DONT_CARE = "DontCare"

_SPELLING = {name.lower(): name for name in (*CLASSES, DONT_CARE)}

_FIELDS = (
    "type", "truncated", "occluded", "alpha", "left", "top", "right", "bottom", "height", "width",
    "length", "x", "y", "z", "rotation_y", "score",
)  # fmt: skip

_MOST_BYTES = 4_000_000  # of a frame's file; tens of thousands of labels
_LONGEST_TYPE = 100  # characters
_SIZES_M = (0.01, 100.0)
_FARTHEST_M = 1000.0
_LARGEST_ANGLE = 2 * math.pi + 0.01
_LARGEST_FLAG = 1000.0


@dataclass(frozen=True)
class Label:
    """One line of a label or detection file, as KITTI writes it.

    Attributes:
        type: class name, in KITTI's spelling if it is one of `CLASSES`; `DontCare` marks an image
            region without annotation.
        truncated: share outside the image, 0 to 1; 0, 1, 2 in the tracking set; -1 if unknown.
        occluded: 0 fully visible, 1 partly, 2 largely occluded, 3 or -1 unknown.
        alpha: observation angle, radians; -10 if unknown.
        bbox: left, top, right, bottom in the image, pixels; without area if unknown.
        dimensions: height, width, length, metres.
        location: bottom centre in the rectified camera frame, metres.
        rotation_y: heading about the camera's y axis, radians.
        score: a detection's confidence; None for a label.
    """

    type: str
    truncated: float
    occluded: int
    alpha: float
    bbox: tuple[float, float, float, float]
    dimensions: tuple[float, float, float]
    location: tuple[float, float, float]
    rotation_y: float
    score: float | None = None

    @property
    def is_object(self) -> bool:
        """Whether this is an annotated object, and not a `DontCare` region."""
        return self.type != DONT_CARE

    @property
    def has_image_box(self) -> bool:
        """Whether `bbox` has an area."""
        left, top, right, bottom = self.bbox
        return right > left and bottom > top

    @property
    def is_usable(self) -> bool:
        """Whether this is an object that can be learnt and judged."""
        return self.is_object and self.flaw is None

    @property
    def flaw(self) -> str | None:
        """Why this object can be neither learnt nor judged; None if it can.

        The words follow a number: "3 without a 3D box".
        """
        if max(self.dimensions) <= 0:
            return "without a 3D box"
        smallest, largest = _SIZES_M
        if not (smallest <= min(self.dimensions) and max(self.dimensions) <= largest):
            return f"with a size that is not within {smallest:g} to {largest:g} m"
        if not any(self.location) or max(map(abs, self.location)) >= _FARTHEST_M:
            return f"in the camera itself or {_FARTHEST_M:g} m away or more"
        if abs(self.rotation_y) > _LARGEST_ANGLE:
            return "with a rotation_y that is no angle in radians"
        if max(abs(self.truncated), abs(self.occluded)) > _LARGEST_FLAG:
            return "with nonsense for truncated or occluded"
        return None

    @classmethod
    def parse(cls, line: str, where: str) -> "Label":
        """Label of one line of text: 15 fields, or 16 with a score, separated by blanks.

        `DataError` names the field and `where`, file and line number.
        """
        words = line.split()
        if len(words) in (17, 18) and words[0].isdecimal() and not _is_number(words[2]):
            raise DataError(
                f"{where}: a label of KITTI's tracking set, which begins with frame and track id: "
                "cut it into a file per frame, without these two columns"
            )
        if len(words) not in (15, 16):
            raise DataError(
                f"{where}: a KITTI label has 15 fields, or 16 with a score; this has {len(words)}"
            )
        if len(words[0]) > _LONGEST_TYPE:
            raise DataError(
                f"{where}: field 'type' has {len(words[0])} characters; at most {_LONGEST_TYPE} "
                "are read"
            )
        numbers = []
        for field, word in zip(_FIELDS[1:], words[1:], strict=False):
            number = float(word) if _is_number(word) else math.nan
            if not math.isfinite(number):
                raise DataError(f"{where}: field {field!r} is {word[:40]!r}, not a finite number")
            numbers.append(number)
        if numbers[1] != int(numbers[1]):
            raise DataError(f"{where}: field 'occluded' is {words[2]!r}, not an integer")
        return cls(
            _SPELLING.get(words[0].lower(), words[0]),
            numbers[0],
            int(numbers[1]),
            numbers[2],
            (numbers[3], numbers[4], numbers[5], numbers[6]),
            (numbers[7], numbers[8], numbers[9]),
            (numbers[10], numbers[11], numbers[12]),
            numbers[13],
            numbers[14] if len(numbers) == 15 else None,
        )

    def __str__(self) -> str:
        """The line of text, with the six digits that KITTI's tracking labels have."""
        truncated = f"{self.truncated:g}" if self.truncated.is_integer() else f"{self.truncated:f}"
        numbers = [self.alpha, *self.bbox, *self.dimensions, *self.location, self.rotation_y]
        if self.score is not None:
            numbers.append(self.score)
        return " ".join(
            [self.type, truncated, str(self.occluded), *(f"{number:.6f}" for number in numbers)]
        )


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def usable(labels: Iterable[Label]) -> list[Label]:
    """The objects that can be learnt and judged: no `DontCare` regions, none with a `flaw`."""
    return [label for label in labels if label.is_usable]


def to_judge(labels: Iterable[Label]) -> list[Label]:
    """Labels as an evaluator takes them: objects with a `flaw` become `DontCare` regions.

    So none has to be found, and in the image none is wrong to find.
    """
    return [
        label
        if label.is_usable or not label.is_object
        else replace(
            label,
            type=DONT_CARE,
            dimensions=(-1.0, -1.0, -1.0),
            location=(-1000.0, -1000.0, -1000.0),
            rotation_y=-10.0,
        )
        for label in labels
    ]


def unusable(labels: Iterable[Label], classes: Collection[str] | None = CLASSES) -> Counter[str]:
    """Why objects can't be learnt or judged, with their number; `DontCare` regions are no objects.

    The words follow a number. Of other `classes` than the known ones, the name is the reason; None
    takes any. Counters of several frames can be added.

    >>> unusable([Label.parse("Car 0 0 0 10 10 20 20 0 0 0 0 0 0 0", "example")])
    Counter({'without a 3D box': 1})
    """
    known = {name.lower() for name in classes or ()}
    reasons: Counter[str] = Counter()
    for label in labels:
        if not label.is_object:
            continue
        if label.flaw is not None:
            reasons[label.flaw] += 1
        elif classes is not None and label.type.lower() not in known:
            reasons[f"of class {label.type[:40]!r}"] += 1
    return reasons


def describe_unusable(reasons: Counter[str]) -> str:
    """One phrase for a log line, most frequent first: "3 without a 3D box, 1 of class 'bus'"."""
    return ", ".join(f"{number} {reason}" for reason, number in reasons.most_common())


def read_labels(path: Path | str) -> list[Label]:
    """Labels or detections of a frame; an empty file has none.

    `DataError` names the file, and line and field where there is one to name.
    """
    return [label for _, label in _numbered_labels(path)]


def read_detections(path: Path | str) -> list[Label]:
    """As `read_labels`, for files whose every line must have a score."""
    detections = []
    for number, label in _numbered_labels(path):
        if label.score is None:
            raise DataError(
                f"{path}:{number}: field 'score' is missing: a detection has 16 fields, the last "
                "of them its score"
            )
        detections.append(label)
    return detections


def _numbered_labels(path: Path | str) -> Iterator[tuple[int, Label]]:
    for number, line in enumerate(read_text(path, _MOST_BYTES).splitlines(), 1):
        if line.strip():
            yield number, Label.parse(line, f"{path}:{number}")


def labels_text(labels: Iterable[Label]) -> str:
    """Labels or detections in KITTI's format, one line each."""
    return "".join(f"{label}\n" for label in labels)


def write_labels(path: Path | str, labels: Iterable[Label]) -> None:
    """Write labels or detections, one line each, in KITTI's format; `DataError` if it can't be."""
    write_whole(Path(path), labels_text(labels).encode())
