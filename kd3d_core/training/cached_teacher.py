"""Whether a teacher's answers can be kept, and the cache of them."""

import logging
from collections.abc import Callable

from kd3d_core.data.augment import AugmentConfig
from kd3d_core.data.kitti import KittiDataset
from kd3d_core.data.samples import PointSource
from kd3d_core.detectors.anchor_detector import AnchorDetector
from kd3d_core.detectors.config import DetectorConfig
from kd3d_core.detectors.second import PointDetector
from kd3d_core.distill.cache import TeacherCache
from kd3d_core.distill.config import DistillConfig
from kd3d_core.paths import cache_dir
from kd3d_core.training.filling import fill_together
from kd3d_core.training.loop import processes

log = logging.getLogger(__name__)

_WORLD = {"flip": 0.0, "rotation": 0.0, "scale": (1.0, 1.0)}
_IMAGE = {"image_scale": (1.0, 1.0), "brightness": 0.0, "contrast": 0.0, "saturation": 0.0}


def filled_cache(
    detector: AnchorDetector,
    config: DetectorConfig,
    points: PointSource,
    frames: KittiDataset,
    settings: DistillConfig,
) -> TeacherCache:
    """The answers of a teacher to all frames, made where they aren't on disk yet.

    Args:
        detector: the teacher; may be forgotten afterwards.
        config: what it was built from.
        points: what it reads.
        frames: that will be asked for.
        settings: say what is compared.
    """
    here = processes()
    folder = cache_dir() / "teacher"
    cache = TeacherCache(folder, detector, config, points, settings, here.device)

    def fill(share: KittiDataset, on_frame: Callable[[], None]) -> None:
        made = cache.fill(share, detector, here.num_processes, on_frame)
        log.info("the teacher answered %d of %d frames; the rest was there", made, len(share))

    fill_together("teacher", frames, fill)
    return cache


def changes_seen(augment: AugmentConfig | None, teacher: AnchorDetector) -> list[str]:
    """The settings of an augmentation that change what a teacher sees from epoch to epoch.

    Args:
        augment: of the run.
        teacher: reads points, and unless it is a `PointDetector` the image.
    """
    if augment is None:
        return []
    still = _WORLD if isinstance(teacher, PointDetector) else {**_WORLD, **_IMAGE}
    return [name for name, value in still.items() if getattr(augment, name) != value]
