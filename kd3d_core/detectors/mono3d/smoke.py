"""SMOKE (Liu et al., 2020): an object is a keypoint, with depth, size and heading beside it."""

from kd3d_core.detectors.lite import IMAGENET
from kd3d_core.detectors.mono3d.design import ImageSettings, Mono3dDesign

_NORM = {"type": "GN", "num_groups": 32}


def smoke(size: tuple[int, int] = (384, 1280)) -> Mono3dDesign:
    """SMOKE for KITTI as mmdet3d has it: DLA-34, deformable convolutions on the way up, one head.

    Boxes with a score above 0.25, at most 100, without NMS: a maximum of 3 x 3 cells is an object.
    """
    return Mono3dDesign(
        network={
            "type": "SMOKEMono3D",
            "backbone": {"type": "DLANet", "depth": 34, "norm_cfg": _NORM},
            "neck": {
                "type": "DLANeck", "in_channels": [16, 32, 64, 128, 256, 512],
                "start_level": 2, "end_level": 5, "norm_cfg": _NORM,
            },
            "bbox_head": {
                "type": "SMOKEMono3DHead", "num_classes": 3, "in_channels": 64,
                "feat_channels": 64, "stacked_convs": 0, "strides": None,
                "cls_branch": (256,), "reg_branch": ((256,),), "group_reg_dims": (8,),
                "dim_channel": [3, 4, 5], "ori_channel": [6, 7], "bbox_code_size": 7,
                "bbox_coder": {
                    "type": "SMOKECoder", "code_size": 7,
                    "base_depth": (28.01, 16.32),  # mean and deviation in metres
                    "base_dims": ((0.88, 1.73, 0.67), (1.78, 1.70, 0.58), (3.88, 1.63, 1.53)),
                },
                "use_direction_classifier": False, "dir_branch": (), "diff_rad_by_sin": False,
                "pred_attrs": False, "num_attrs": 0, "attr_branch": (), "pred_velo": False,
                "dcn_on_last_conv": False, "conv_bias": True,
            },
        },
        image=ImageSettings(IMAGENET, "warp", size, stride=4),
        classes=("Pedestrian", "Cyclist", "Car"),
    )  # fmt: skip
