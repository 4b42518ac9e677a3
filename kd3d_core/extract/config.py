"""Settings of an extraction."""

from dataclasses import dataclass
from typing import Literal

from kd3d_core.errors import ConfigError

Clock = Literal["header", "record"]


@dataclass(frozen=True)
class ExtractConfig:
    """What is extracted from recordings, and how.

    Attributes:
        images: topics with images, a camera each; none: all that have a CameraInfo beside them.
        infos: topics of their CameraInfos, in the same order; none: those beside the images.
        points: topic with the LiDAR's clouds; empty: the only one, if there is any.
        labels: topic with labels (Detection3DArray); empty: the only one, if there is any.
        clock: source of the time of measurement: the messages' headers, or the recording.
        max_offset_s: from a scan to its image, at most; None: half of the camera's period.
        every: only each `every`-th scan is wanted, or image where there is no LiDAR.
        min_motion_m: how far the robot must have moved since the last frame, metres.
        image_bits: that a camera uses of images with 16, which some leave dark.
        rectified: whether the images are rectified already; None: as `looks_rectified` tells.
        extrinsics: a file for each camera that says where it is in the LiDAR's frame; none: the
            recording's transforms.
        correct_motion: whether points are moved to where they would have been measured at the time
            of the image, where the recording tells how the LiDAR moved.
        camera_height_m: over the ground. Without a LiDAR, the made-up frame is put there (default:
            1.65 m); with one, clouds are moved up or down so that the ground lies where models
            expect it, at z = -1.73 m (default: they stay as they are).
        val_share: of the frames that is for validation.
    """

    images: tuple[str, ...] = ()
    infos: tuple[str, ...] = ()
    points: str = ""
    labels: str = ""
    clock: Clock = "header"
    max_offset_s: float | None = None
    every: int = 1
    min_motion_m: float = 0.0
    image_bits: int = 16
    rectified: bool | None = None
    extrinsics: tuple[str, ...] = ()
    correct_motion: bool = True
    camera_height_m: float | None = None
    val_share: float = 0.2

    def __post_init__(self) -> None:
        if self.infos and len(self.infos) != len(self.images):
            raise ConfigError(
                f"--camera-info names {len(self.infos)} topics and --image {len(self.images)}: "
                "give one for each, in the same order"
            )
        if len(set(self.images)) < len(self.images):
            raise ConfigError("--image names a topic twice")
        if self.max_offset_s is not None and not 0 <= self.max_offset_s <= 60:
            raise ConfigError(f"--max-offset {self.max_offset_s:g}: give seconds, from 0 to 60")
        if self.every < 1:
            raise ConfigError(f"--every {self.every}: give 1 or more")
        if not 9 <= self.image_bits <= 16:
            raise ConfigError(f"--image-bits {self.image_bits}: give 9 to 16")
        if not 0 <= self.min_motion_m <= 1000:
            raise ConfigError(f"--min-motion {self.min_motion_m:g}: give metres, from 0 to 1000")
        if self.camera_height_m is not None and not 0.05 <= self.camera_height_m <= 20:
            raise ConfigError(
                f"--camera-height {self.camera_height_m:g}: give metres, from 0.05 to 20"
            )
        if not 0 <= self.val_share <= 0.5:
            raise ConfigError(f"--val-share {self.val_share:g}: give a share from 0 to 0.5")
