"""Settings of the tracker."""

from dataclasses import dataclass, fields

from kd3d_core.errors import ConfigError


@dataclass(frozen=True)
class TrackerConfig:
    """How boxes become tracks. Noises are standard deviations.

    Attributes:
        position_noise: of a detection's place, metres.
        depth_noise: the same along the line of sight, in addition, as a share of the distance: one
            camera sees where an object is, but only estimates how far.
        size_noise: of length, width and height, metres.
        yaw_noise: of the heading, radians; half turns don't count, see `tracker`.
        acceleration: how much a velocity component changes within a second, metres per second.
        size_change, yaw_change: the same of sizes (metres) and heading (radians).
        start_speed: of a new track's velocity components, metres per second, with poses.
        start_speed_relative: the same without poses, when the detector's own speed comes on top.
        gate: farthest a detection may be from where a track is expected, in standard deviations of
            the two together.
        confirm_hits: detections that make a track, ...
        confirm_s: ... and the time between the first and the last of them, seconds. Objects of the
            very first frame count at once: nothing could be known of them before.
        coast_s: how long a track is still told of without being detected, seconds.
        forget_s: how long it is kept to be found again, seconds; ...
        forget_misses: ... but not before that many frames in which it wasn't.
        forget_new_s: as `forget_s`, for one that isn't confirmed yet.
        max_gap_s: a pause between frames after which tracking begins anew, seconds.
        max_pose_gap_s: how long poses may be missing before tracking goes on without, seconds.
        max_pose_jump: how far a pose may be from where the last two lead, metres, before tracking
            begins anew.
        trail_points: how many earlier places of a track are kept, one every 0.1 s at most.
    """

    position_noise: float = 0.3
    depth_noise: float = 0.03
    size_noise: float = 0.3
    yaw_noise: float = 0.3
    acceleration: float = 3.0
    size_change: float = 0.05
    yaw_change: float = 0.5
    start_speed: float = 8.0
    start_speed_relative: float = 15.0
    gate: float = 3.5
    confirm_hits: int = 3
    confirm_s: float = 0.15
    coast_s: float = 0.2
    forget_s: float = 0.6
    forget_misses: int = 2
    forget_new_s: float = 0.25
    max_gap_s: float = 5.0
    max_pose_gap_s: float = 1.0
    max_pose_jump: float = 2.0
    trail_points: int = 20

    def __post_init__(self) -> None:
        for name in (field.name for field in fields(self)):
            value = getattr(self, name)
            least = 1 if name in ("confirm_hits", "forget_misses", "trail_points") else 0
            if not least <= value < 1e6:
                raise ConfigError(f"tracker: {name} is {value:g}: give {least} or more")
        for name in ("position_noise", "size_noise", "yaw_noise", "gate", "max_gap_s"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"tracker: {name} is 0: give more")
