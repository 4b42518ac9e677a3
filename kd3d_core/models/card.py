"""ModelCard: what a model was trained on, with which cameras, and which scores mean something.

Training writes it into `model.yaml`, packing keeps it. About a file without a card nothing is said.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from kd3d_core.config import ADDED
from kd3d_core.errors import ConfigError
from kd3d_core.geometry.camera import PinholeCamera
from kd3d_core.geometry.virtual_frame import camera_height, camera_pitch_deg
from kd3d_core.models.box_errors import BoxErrors

NOT_KNOWN = "not known"


@dataclass(frozen=True)
class CameraRange:
    """The cameras that a network was trained with: smallest and largest of each value.

    Attributes:
        height_m: over the ground, metres.
        pitch_deg: of the optical axis below the horizontal, degrees.
        focal_px: horizontal focal length of the original images, pixels.
        image_width: of the original images, pixels.
        image_height: of the original images, pixels.
    """

    height_m: tuple[float, float]
    pitch_deg: tuple[float, float]
    focal_px: tuple[float, float]
    image_width: tuple[int, int]
    image_height: tuple[int, int]

    def __post_init__(self) -> None:
        for name, (low, high) in vars(self).items():
            lowest = -90 if name == "pitch_deg" else 0
            if not lowest < low <= high:
                raise ConfigError(f"{name} is [{low:g}, {high:g}]: give smallest and largest")

    @classmethod
    def of(cls, cameras: Iterable[PinholeCamera]) -> "CameraRange":
        """The range of at least one camera.

        >>> from kd3d_core.geometry.virtual_frame import virtual_lidar_from_camera
        >>> projection = np.array([[720.0, 0, 620, 0], [0, 720, 187, 0], [0, 0, 1, 0]])
        >>> camera = PinholeCamera(projection, 1242, 375, virtual_lidar_from_camera(1.65))
        >>> CameraRange.of([camera, camera.resized(0.5)])  # doctest: +NORMALIZE_WHITESPACE
        CameraRange(height_m=(1.65, 1.65), pitch_deg=(0.0, 0.0), focal_px=(360.0, 720.0),
                    image_width=(621, 1242), image_height=(187, 375))
        """
        values = [
            (
                camera_height(each.lidar_from_camera),
                camera_pitch_deg(each.lidar_from_camera),
                *(each.focal_px, each.width, each.height),
            )
            for each in cameras
        ]
        height, pitch, focal, width, rows = zip(*values, strict=True)

        def between(numbers: Sequence[float], digits: int) -> tuple[float, float]:
            return round(min(numbers), digits) + 0.0, round(max(numbers), digits) + 0.0

        return cls(
            height_m=between(height, 3),
            pitch_deg=between(pitch, 2),
            focal_px=between(focal, 1),
            image_width=(min(width), max(width)),
            image_height=(min(rows), max(rows)),
        )

    def typical(self) -> PinholeCamera:
        """A camera in the middle of the range; its place in the detector frame means nothing."""
        focal = sum(self.focal_px) / 2
        width, height = self.image_width[1], self.image_height[1]
        projection = np.array(
            [[focal, 0, width / 2, 0], [0, focal, height / 2, 0], [0, 0, 1, 0]], np.float64
        )
        return PinholeCamera(projection, width, height, np.eye(4))


@dataclass(frozen=True)
class TrainingFrames:
    """The frames that a network was trained on.

    Attributes:
        trained_on: which frames, in a few words.
        rendered: whether all of them are rendered, so that the network never saw a real image.
        camera: the cameras that took them; None if not known.
    """

    trained_on: str
    rendered: bool = False
    camera: CameraRange | None = None


@dataclass(frozen=True)
class ModelCard:
    """What is known of a model's training; all of it may be unknown.

    Attributes:
        depth: frames that the depth network was trained on; None if not known.
        detector: frames that the detector was trained on; None if not known.
        score_thresholds: by class, the score from which on a detection is worth showing; all
            detections of a class that has none are.
        thresholds_from: how they were chosen, and on what.
        box_errors: how far boxes are off, in rows of rising distance; empty if not measured.
        box_errors_from: on what they were measured.
    """

    depth: TrainingFrames | None = None
    detector: TrainingFrames | None = None
    score_thresholds: dict[str, float] = field(default_factory=dict)
    thresholds_from: str = ""
    box_errors: tuple[BoxErrors, ...] = field(default=(), metadata=ADDED)
    box_errors_from: str = field(default="", metadata=ADDED)

    def __post_init__(self) -> None:
        for name, score in self.score_thresholds.items():
            if not 0 <= score <= 1:
                raise ConfigError(f"score_thresholds.{name} is {score:g}: give a score, 0 to 1")
        distances = [row.to_m for row in self.box_errors]
        if any(after <= before for before, after in pairwise(distances)):
            raise ConfigError(f"box_errors: to_m is {distances}: give rising distances")

    @property
    def trained_on(self) -> str:
        """The frames of all networks in a few words.

        >>> streets, scenes = TrainingFrames("streets"), TrainingFrames("scenes", rendered=True)
        >>> ModelCard(scenes, streets).trained_on, ModelCard(scenes, scenes).trained_on
        ('depth: scenes; detector: streets', 'scenes')
        """
        depth, detector = (
            NOT_KNOWN if part is None else part.trained_on for part in (self.depth, self.detector)
        )
        return depth if depth == detector else f"depth: {depth}; detector: {detector}"

    @property
    def only_rendered(self) -> bool:
        """Whether it is known of both networks that they have never seen a real image."""
        return all(part is not None and part.rendered for part in (self.depth, self.detector))

    @property
    def camera(self) -> CameraRange | None:
        """The cameras that decide what is metric: those of the depth network, if known."""
        for part in (self.depth, self.detector):
            if part is not None and part.camera is not None:
                return part.camera
        return None

    def thresholds(
        self, classes: Sequence[str], score_threshold: float | None = None
    ) -> tuple[float, ...]:
        """The score of each class from which on detections are shown.

        >>> card = ModelCard(score_thresholds={"Car": 0.4})
        >>> card.thresholds(["Car", "Cyclist"]), card.thresholds(["Car", "Cyclist"], 0.1)
        ((0.4, 0.0), (0.1, 0.1))

        Args:
            classes: the detector's classes.
            score_threshold: one for all classes, instead of the card's.
        """
        if score_threshold is not None:
            return (score_threshold,) * len(classes)
        return tuple(self.score_thresholds.get(name, 0.0) for name in classes)

    def describe_thresholds(self) -> str:
        """The thresholds and their origin in a few words.

        >>> card = ModelCard(score_thresholds={"Car": 0.4}, thresholds_from="best F1")
        >>> card.describe_thresholds()
        'Car 0.4 (best F1)'
        """
        if not self.score_thresholds:
            return NOT_KNOWN
        scores = ", ".join(f"{name} {score:g}" for name, score in self.score_thresholds.items())
        return f"{scores} ({self.thresholds_from})" if self.thresholds_from else scores


@dataclass(frozen=True)
class Caveat:
    """What to say beside all that a model finds.

    Attributes:
        short: for a picture.
        text: for a log, or a page.
    """

    short: str
    text: str


UNTRAINED = Caveat(
    "UNTRAINED: random weights", "UNTRAINED: the weights are random, so the boxes mean nothing"
)
ONLY_RENDERED = Caveat(
    "trained on rendered scenes only",
    "the model was trained on rendered scenes only: in real images, expect wrong distances, "
    "missed objects and wrong boxes",
)


def caveat(trained: bool, card: ModelCard) -> Caveat | None:
    """What to say of a model's answers; None if nothing speaks against them.

    Args:
        trained: whether none of its weights is random.
        card: of the model.
    """
    if not trained:
        return UNTRAINED
    return ONLY_RENDERED if card.only_rendered else None
