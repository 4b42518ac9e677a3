"""mmdet3d's own detectors on one image: its config files, test pipelines, preprocessor, predict."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import init_default_scope

from kd3d_core.detectors.mono3d.design import Mono3dDesign
from kd3d_core.detectors.mono3d.fcos3d import fcos3d
from kd3d_core.detectors.mono3d.imvoxelnet import imvoxelnet
from kd3d_core.detectors.mono3d.pgd import pgd
from kd3d_core.detectors.mono3d.smoke import smoke
from kd3d_core.detectors.upstream.inference import _register_pipeline_steps
from kd3d_core.geometry.camera import PinholeCamera

FILES = {
    "smoke": "smoke/smoke_dla34_dlaneck_gn-all_4xb8-6x_kitti-mono3d.py",
    "pgd": "pgd/pgd_r101-caffe_fpn_head-gn_4xb3-4x_kitti-mono3d.py",
    "fcos3d": "fcos3d/fcos3d_r101-caffe-dcn_fpn_head-gn_8xb2-1x_nus-mono3d.py",
    "imvoxelnet": "imvoxelnet/imvoxelnet_8xb4_kitti-3d-car.py",
}
PUBLISHED: dict[str, Callable[[], Mono3dDesign]] = {
    "smoke": smoke, "pgd": pgd, "fcos3d": fcos3d, "imvoxelnet": imvoxelnet,
}  # fmt: skip
SIZE = (64, 160)
"""Of the images that small ones read."""
_FEW_VOXELS = [16, 20, 12]


class Found(NamedTuple):
    """Boxes `(N, 7)` in the frame they are in, scores, and names of classes."""

    boxes: np.ndarray
    scores: np.ndarray
    names: list[str]


def small_design(kind: str) -> Mono3dDesign:
    """Ours with a shorter backbone for small images."""
    match kind:
        case "smoke":
            return smoke(SIZE)
        case "pgd":
            return pgd(depth=50)
        case "fcos3d":
            return fcos3d(depth=50)
    design = imvoxelnet(SIZE)
    return replace(design, network={**design.network, "n_voxels": _FEW_VOXELS})


class Mmdet3d:
    """One of them, with weights drawn from seed 1, deformed convolutions included."""

    def __init__(self, kind: str, small: bool) -> None:
        import mmdet3d.models  # not before ours has lent mmcv its ops
        from mmdet3d.registry import MODELS

        init_default_scope("mmdet3d")
        _register_pipeline_steps()
        self.config = Config.fromfile(Path(mmdet3d.__file__).parent / ".mim/configs" / FILES[kind])
        model, steps = self.config.model, self.config.test_dataloader.dataset.pipeline[1:]
        if small and kind in ("pgd", "fcos3d"):
            model.backbone.depth = 50
        if small and kind == "smoke":
            steps[0].img_scale = SIZE[::-1]
        if small and kind == "imvoxelnet":
            model.n_voxels, steps[0].scale = _FEW_VOXELS, SIZE[::-1]
        self.lidar = kind == "imvoxelnet"
        self._pipeline = Compose(steps)  # what follows the reading of a file
        with torch.random.fork_rng():
            torch.manual_seed(1)
            self.network = MODELS.build(model).eval()
            for name, value in self.network.named_parameters():
                if "conv_offset" in name:
                    torch.nn.init.normal_(value, std=0.01)

    def prepared(self, image: np.ndarray, camera: PinholeCamera) -> dict[str, Any]:
        """What its data set gives for an RGB image, ready for `test_step`."""
        from mmdet3d.structures import Box3DMode, CameraInstance3DBoxes, LiDARInstance3DBoxes

        projection, lidar = np.eye(4), np.eye(4)
        projection[:3], lidar[:3] = camera.projection, camera.image_from_lidar
        data = {
            "img": np.ascontiguousarray(image[..., ::-1]),
            "img_shape": image.shape[:2], "ori_shape": image.shape[:2],
            "cam2img": projection.astype(np.float32), "lidar2img": lidar.astype(np.float32),
            "box_type_3d": LiDARInstance3DBoxes if self.lidar else CameraInstance3DBoxes,
            "box_mode_3d": Box3DMode.LIDAR if self.lidar else Box3DMode.CAM,
        }  # fmt: skip
        return pseudo_collate([self._pipeline(data)])

    def images(self, image: np.ndarray, camera: PinholeCamera) -> torch.Tensor:
        """What its network reads."""
        return self.network.data_preprocessor(self.prepared(image, camera))["inputs"]["imgs"]

    def __call__(
        self, image: np.ndarray, camera: PinholeCamera, seen: torch.Tensor | None = None
    ) -> Found:
        """What it finds; with `seen`, in that instead of what its pipeline makes of the image."""
        with torch.no_grad():
            prepared = self.prepared(image, camera)
            if seen is None:
                (answer,) = self.network.test_step(prepared)
            else:
                samples = self.network.data_preprocessor(prepared)["data_samples"]
                (answer,) = self.network.predict({"imgs": seen}, samples)
        found = answer.pred_instances_3d
        names = [self.config.class_names[label] for label in found.labels_3d]
        return Found(found.bboxes_3d.tensor[:, :7].numpy(), found.scores_3d.numpy(), names)
