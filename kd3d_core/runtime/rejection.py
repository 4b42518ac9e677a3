"""Why a frame could not be used."""

from kd3d_core.errors import Kd3dError


class RejectedError(Kd3dError):
    """A frame that never reaches the detector.

    Attributes:
        kind: one word that frames are counted under, such as `no_camera_info`.
    """

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


class NotYetError(RejectedError):
    """RejectedError for something that may still arrive: a first CameraInfo, a static transform."""
