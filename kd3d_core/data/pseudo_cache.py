"""Pseudo-LiDAR on disk, so that training doesn't run the depth network again and again.

A cloud's file name is a digest of everything that it depends on: the network's weights, every
setting, the image, the calibration, and of the code `CACHE_FORMAT`. Whatever changes, another file
is read or made; none is ever stale.
"""

import hashlib
import io
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from kd3d_core.data.kitti import KittiDataset, KittiFrame
from kd3d_core.data.samples import windowed
from kd3d_core.depth.model import DepthConfig
from kd3d_core.errors import DataError
from kd3d_core.files import write_whole
from kd3d_core.paths import CACHE_FORMAT
from kd3d_core.pseudo_lidar import PseudoLidarConfig, pseudo_lidar


class PseudoLidarCache:
    """Clouds of one depth network with one set of settings; a `PointSource` once filled.

    Attributes:
        digest: hexadecimal sha256 of network and settings.
    """

    def __init__(
        self, folder: Path, depth: nn.Module, config: DepthConfig, settings: PseudoLidarConfig
    ) -> None:
        """
        Args:
            folder: where the clouds of all networks and settings lie.
            depth: the network; maps `(1, 3, h, w)` RGB in [0, 1] to `(1, h, w)` metres.
            config: its configuration.
            settings: how depth becomes points.
        """
        assert config.window is not None, "make_depth says which window the model wants"
        self._window = config.window
        self._settings = settings
        of_it = asdict(replace(config, weights=""))  # wherever the file is, they are the same
        kind = json.dumps([CACHE_FORMAT, of_it, asdict(settings), weights_digest(depth)])
        self.digest = hashlib.sha256(kind.encode()).hexdigest()
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

    @torch.inference_mode()
    def fill(
        self,
        frames: KittiDataset,
        depth: Callable[[torch.Tensor], torch.Tensor],
        device: torch.device,
        on_frame: Callable[[], None] = lambda: None,
    ) -> int:
        """Make the clouds that aren't there yet; their number.

        Args:
            frames: whose clouds will be needed.
            depth: the network of `__init__`, on `device` and in eval mode.
            device: where to compute.
            on_frame: called after each frame.
        """
        made = 0
        for index in range(len(frames)):
            frame = frames[index]
            path = self._path(frame)
            if not path.is_file():
                _write(path, self.cloud(frame, depth, device))
                made += 1
            on_frame()
        return made

    @torch.inference_mode()
    def cloud(
        self,
        frame: KittiFrame,
        depth: Callable[[torch.Tensor], torch.Tensor],
        device: torch.device,
    ) -> np.ndarray:
        """`(N, 4)` float32 cloud of a frame, made anew; see `fill`."""
        image, camera = windowed(frame, self._window)
        answer = depth(image[None].to(device) / 255)[0]
        inside = self._window.window(frame.camera()).inside(frame.camera())
        points, valid = pseudo_lidar(answer, camera, self._settings, inside)
        return points[valid].cpu().numpy()

    def _path(self, frame: KittiFrame) -> Path:
        digest = hashlib.sha256()
        for part in ("image_2", "calib"):
            digest.update(frame.path(part).read_bytes())
        return self._folder / f"{digest.hexdigest()[:32]}.npy"


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
