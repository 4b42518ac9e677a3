"""Pseudo-LiDAR on disk, so that training doesn't run the depth network again and again.

A cloud's file name is a digest of everything that it depends on: the network's weights, every
setting, the image, the calibration, and of the code `CACHE_FORMAT`. Whatever changes, another file
is read or made; none is ever stale.
"""

import hashlib
import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from kd3d_core.config import settings_digest
from kd3d_core.data.frame_inputs import image_tensor
from kd3d_core.data.kitti import KittiDataset, KittiFrame
from kd3d_core.errors import DataError
from kd3d_core.files import write_whole
from kd3d_core.models.cloud import PseudoLidar
from kd3d_core.paths import CACHE_FORMAT


class PseudoLidarCache:
    """Clouds of one depth network with one set of settings; a `PointSource` once filled.

    Attributes:
        digest: hexadecimal sha256 of network and settings; names the folder of its clouds.
    """

    def __init__(self, folder: Path, pseudo_lidar: PseudoLidar) -> None:
        """Of what makes clouds in the precision in which the detector will later get its points."""
        self._make: PseudoLidar | None = pseudo_lidar
        network = replace(pseudo_lidar.config, weights="")  # wherever the file is, it is the same
        weights = weights_digest(pseudo_lidar.network)
        parts = [CACHE_FORMAT, network, pseudo_lidar.settings, weights]
        if pseudo_lidar.precision != "fp32":
            parts.append(pseudo_lidar.precision)
        self.digest = settings_digest(parts)
        self._folder = folder / self.digest[:16]

    def __call__(self, frame: KittiFrame) -> np.ndarray:
        """`(N, 4)` float32 cloud of a frame that `fill` has seen."""
        path = self._path(frame)
        try:
            return np.load(path, allow_pickle=False)
        except FileNotFoundError:
            raise DataError(
                f"there is no pseudo-LiDAR of frame {frame.name} in {path.parent}: if several "
                "machines train together, let KD3D_CACHE name a folder that they share"
            ) from None
        except (OSError, ValueError) as error:
            raise DataError(
                f"pseudo-LiDAR of frame {frame.name} can't be read from {path}: {error}; "
                "delete the file and start again"
            ) from None

    def fill(
        self,
        frames: KittiDataset,
        device: torch.device,
        on_frame: Callable[[], None] = lambda: None,
    ) -> int:
        """Make the clouds that aren't there yet; their number. `device`: where the network is."""
        made = 0
        for frame in frames:
            path = self._path(frame)
            if not path.is_file():
                _write(path, self.cloud(frame, device))
                made += 1
            on_frame()
        return made

    def cloud(self, frame: KittiFrame, device: torch.device) -> np.ndarray:
        """`(N, 4)` float32 cloud of a frame, made anew; see `fill`."""
        assert self._make is not None, "a released cache only reads"
        return pseudo_lidar_points(self._make, frame, device)

    def release(self) -> None:
        """Forget the depth network, whose memory is needed elsewhere; only read from now on."""
        self._make = None

    def _path(self, frame: KittiFrame) -> Path:
        digest = hashlib.sha256()
        for part in ("image_2", "calib"):
            digest.update(frame.path(part).read_bytes())
        return self._folder / f"{digest.hexdigest()[:32]}.npy"


@torch.inference_mode()
def pseudo_lidar_points(
    pseudo_lidar: PseudoLidar, frame: KittiFrame, device: torch.device
) -> np.ndarray:
    """`(N, 4)` float32 cloud of a frame; `device` is where the network is."""
    image = frame.image()
    cloud = pseudo_lidar(image_tensor(image).to(device), frame.camera(image.shape[:2]))
    return cloud.points[cloud.valid].cpu().numpy()


def weights_digest(module: nn.Module) -> str:
    """Hexadecimal sha256 of all of a module's tensors and their names."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _write(path: Path, points: np.ndarray) -> None:
    buffer = io.BytesIO()
    np.save(buffer, points)
    write_whole(path, buffer.getvalue())
