"""Objects over time: a stable id and a velocity for each, from the boxes of frame after frame."""

from kd3d_core.tracking.config import TrackerConfig
from kd3d_core.tracking.tracker import Tracker
from kd3d_core.tracking.tracks import Tracks

__all__ = ["Tracker", "TrackerConfig", "Tracks"]
