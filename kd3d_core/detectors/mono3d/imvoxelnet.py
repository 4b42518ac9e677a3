"""ImVoxelNet (Rukhovich et al., 2022): image features on voxels, then a detector from above."""

from kd3d_core.detectors.lite import IMAGENET
from kd3d_core.detectors.mono3d.design import ImageSettings, Mono3dDesign


def imvoxelnet(size: tuple[int, int] = (384, 1280), depth: int = 50) -> Mono3dDesign:
    """ImVoxelNet for KITTI's cars as mmdet3d has it: ResNet-50, voxels of 0.32 m, anchors.

    Boxes with a score above 0.1, at most 50, after rotated NMS at 0.01 in bird's-eye view.
    """
    return Mono3dDesign(
        network={
            "type": "ImVoxelNet",
            "backbone": {
                "type": "mmdet.ResNet", "depth": depth, "style": "pytorch", "norm_eval": True,
                "norm_cfg": {"type": "BN", "requires_grad": False},
            },
            "neck": {
                "type": "mmdet.FPN", "in_channels": [256, 512, 1024, 2048], "out_channels": 64,
                "num_outs": 4,
            },
            "coord_type": "LIDAR",
            "n_voxels": [216, 248, 12],
            "prior_generator": {
                "type": "AlignedAnchor3DRangeGenerator", "rotations": [0.0],
                "ranges": [[-0.16, -39.68, -3.08, 68.96, 39.68, 0.76]],
            },
            "neck_3d": {"type": "OutdoorImVoxelNeck", "in_channels": 64, "out_channels": 256},
            "bbox_head": {
                "type": "Anchor3DHead", "num_classes": 1, "in_channels": 256,
                "feat_channels": 256, "use_direction_classifier": True, "diff_rad_by_sin": True,
                "anchor_generator": {
                    "type": "AlignedAnchor3DRangeGenerator", "rotations": [0, 1.57],
                    "ranges": [[-0.16, -39.68, -1.78, 68.96, 39.68, -1.78]],
                    "sizes": [[3.9, 1.6, 1.56]], "reshape_out": True,
                },
                "bbox_coder": {"type": "DeltaXYZWLHRBBoxCoder"},
            },
            "test_cfg": {
                "use_rotate_nms": True, "nms_pre": 100, "nms_thr": 0.01, "score_thr": 0.1,
                "max_num": 50, "nms_across_levels": False, "min_bbox_size": 0,
            },
        },
        image=ImageSettings(IMAGENET, "fit", size),
        classes=("Car",),
    )  # fmt: skip
