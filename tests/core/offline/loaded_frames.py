"""What a source gives, and whether two cameras are the same."""

import numpy as np

from kd3d_core.frames import Frame
from kd3d_core.geometry.camera import PinholeCamera
from kd3d_core.offline.source import Source


def loaded(source: Source) -> list[Frame]:
    return [reference.load() for reference in source.references]


def same(one: PinholeCamera, other: PinholeCamera) -> bool:
    return (
        np.allclose(one.projection, other.projection, atol=1e-12)
        and np.allclose(one.lidar_from_camera, other.lidar_from_camera, atol=1e-9)
        and (one.width, one.height) == (other.width, other.height)
        and (one.distortion is None) == (other.distortion is None)
    )
