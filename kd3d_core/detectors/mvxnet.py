"""MVX-Net (Sindagi et al., 2019): image features on points, voxels, bird's-eye view, anchors.

The network is mmdet3d's own `DynamicMVXFasterRCNN` from its own config; `FusionDetector` is the
way through it, stage by stage.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path

import mmdet3d
import torch
from mmengine.config import Config, ConfigDict
from mmengine.structures import InstanceData
from torch import nn

from kd3d_core.detectors.decode import BoxSlots, DecodeConfig, HeadMaps, decode
from kd3d_core.detectors.fusion import MODELS, ImageFeatures
from kd3d_core.detectors.voxels import VoxelGrid, assign_dense, assign_sparse
from kd3d_core.ops.mmcv_ext import install

install()

from mmdet3d.structures import LiDARInstance3DBoxes  # noqa: E402

KITTI_CLASSES = ("Pedestrian", "Cyclist", "Car")
_LOSSES = {"cls": "cls", "box": "bbox", "dir": "dir"}
_CONFIG = "mvxnet/mvxnet_fpn_dv_second_secfpn_8xb2-80e_kitti-3d-3class.py"


def mvxnet_config() -> ConfigDict:
    """mmdet3d's MVX-Net for KITTI, on our batched first stage."""
    model = Config.fromfile(Path(mmdet3d.__file__).parent / ".mim" / "configs" / _CONFIG).model
    model.pts_voxel_encoder.type = "VoxelFeatureEncoder"
    model.pts_voxel_encoder.fusion_layer.type = "BatchedPointFusion"
    return model


class FusionDetector(nn.Module):
    """A detector on image and points, built from an mmdet3d model config.

    Without a `pts_middle_encoder` the voxels are pillars of a dense grid, and no step waits for
    the device; with one (sparse convolution) the number of voxels has to be known on the host.
    """

    image_mean: torch.Tensor
    image_std: torch.Tensor

    def __init__(self, config: ConfigDict, decoding: DecodeConfig) -> None:
        super().__init__()
        self.decoding = decoding
        preprocessing = config.data_preprocessor
        voxel_layer = preprocessing.voxel_layer
        self.grid = VoxelGrid(tuple(voxel_layer.voxel_size), tuple(voxel_layer.point_cloud_range))
        self.bgr = not preprocessing.bgr_to_rgb
        shape = (1, 3, 1, 1)
        self.register_buffer("image_mean", torch.tensor(preprocessing.mean).view(shape), False)
        self.register_buffer("image_std", torch.tensor(preprocessing.std).view(shape), False)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # mmdet3d announces changes of its own
            self.network = MODELS.build({**config, "data_preprocessor": None})
        self._anchors: dict[tuple, torch.Tensor] = {}

    def forward(
        self,
        points: torch.Tensor,
        samples: torch.Tensor,
        images: torch.Tensor,
        image_from_lidar: torch.Tensor,
        valid: torch.Tensor | None = None,
    ) -> HeadMaps:
        """The head's maps for a batch.

        Args:
            points: `(N, 4)` of all samples, detector frame.
            samples: `(N,)` int64, which sample each point belongs to.
            images: `(B, 3, H, W)` RGB, 0 to 255, cut to the detector's window.
            image_from_lidar: `(B, 3, 4)` projections into those images.
            valid: `(N,)` points to use; None uses all.
        """
        height, width = images.shape[-2:]
        image = ImageFeatures(self.image_features(images), image_from_lidar, (height, width))
        bev = self.bev_input(points, samples, valid, image)
        features = self.network.pts_neck(self.network.pts_backbone(bev))
        logits, deltas, directions = (level[0] for level in self.network.pts_bbox_head(features))
        return HeadMaps(logits, deltas, directions)

    def image_features(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Feature pyramid of RGB images, 0 to 255."""
        if self.bgr:
            images = images.flip(1)
        images = (images - self.image_mean) / self.image_std
        return tuple(self.network.img_neck(self.network.img_backbone(images)))

    def bev_input(
        self,
        points: torch.Tensor,
        samples: torch.Tensor,
        valid: torch.Tensor | None,
        image: ImageFeatures,
    ) -> torch.Tensor:
        """`(B, C, y, x)` bird's-eye view that the BEV backbone reads."""
        batch_size = len(image.image_from_lidar)
        encoder = self.network.pts_voxel_encoder
        if hasattr(self.network, "pts_middle_encoder"):
            voxels = assign_sparse(points, samples, valid, self.grid)
            features = encoder(voxels, image)
            return self.network.pts_middle_encoder(features, voxels.voxel_coords, batch_size)
        voxels = assign_dense(points, samples, valid, batch_size, self.grid)
        _, ny, nx = self.grid.shape
        return encoder(voxels, image).view(batch_size, ny, nx, -1).permute(0, 3, 1, 2)

    def boxes(self, maps: HeadMaps) -> BoxSlots:
        """The boxes that the head's maps stand for."""
        head = self.network.pts_bbox_head
        height, width = maps.logits.shape[-2:]
        return decode(
            maps,
            self.anchors((height, width), maps.logits.device),
            head.num_classes,
            self.decoding,
            head.dir_offset,
            head.dir_limit_offset,
        )

    def losses(
        self, maps: HeadMaps, boxes: Sequence[torch.Tensor], labels: Sequence[torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """mmdet3d's losses of the head: `cls`, `box` and `dir`.

        Args:
            maps: the head's answers.
            boxes: `(M_b, 7)` true boxes of each sample.
            labels: `(M_b,)` int64 of each sample.
        """
        truth = [
            InstanceData(bboxes_3d=LiDARInstance3DBoxes(box), labels_3d=label)
            for box, label in zip(boxes, labels, strict=True)
        ]
        head = self.network.pts_bbox_head
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it calls meshgrid without `indexing`
            losses = head.loss_by_feat(
                [maps.logits], [maps.deltas], [maps.directions], truth, [{}] * len(truth)
            )
        return {name: sum(losses[f"loss_{key}"]) for name, key in _LOSSES.items()}

    def anchors(self, size: tuple[int, int], device: torch.device) -> torch.Tensor:
        """`(h * w * A, 7)` anchors of a BEV grid of `size`; made once per size and device."""
        key = (size, device)
        if key not in self._anchors:
            generator = self.network.pts_bbox_head.prior_generator
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # it calls meshgrid without `indexing`
                (anchors,) = generator.grid_anchors([size], device=device)
            self._anchors[key] = anchors.reshape(-1, 7)
        return self._anchors[key]
