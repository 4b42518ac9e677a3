"""The frames of a run: which there are, and which of them can teach something."""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from kd3d_core.data.augment_config import AugmentConfig
from kd3d_core.data.kitti import KittiDataset
from kd3d_core.data.labels import describe_unusable, unusable, usable
from kd3d_core.data.splits import listed_frames, split_frames
from kd3d_core.distill.config import DistillConfig
from kd3d_core.errors import ConfigError, DataError
from kd3d_core.training.config import DataConfig

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingSet:
    """Frames of one folder to train on.

    Attributes:
        frames: the frames.
        share: of all samples of an epoch, that come from here; 0 for the main set, all frames of
            which are seen in every epoch.
        use_labels: whether label files count, where there are any.
        augment: how these frames may change; None is as the run's `augment` says.
    """

    frames: KittiDataset
    share: float = 0.0
    use_labels: bool = True
    augment: AugmentConfig | None = None


@dataclass(frozen=True)
class RunData:
    """All frames of a run: sets to train on, the main one first, and frames to validate on."""

    train: tuple[TrainingSet, ...]
    val: KittiDataset

    @property
    def shares(self) -> list[float]:
        """The shares of the sets beside the main one."""
        return [part.share for part in self.train[1:]]

    @property
    def all_frames(self) -> tuple[KittiDataset, ...]:
        """The frames of every set."""
        return (*(part.frames for part in self.train), self.val)


def run_data(config: DataConfig) -> RunData:
    """The frames that a configuration names; `DataError` if a folder, list or frame isn't there."""
    main = KittiDataset(config.root, listed_frames(config.train, config.root, "data.train"))
    if config.val is not None or config.val_root is not None:
        root = config.val_root or config.root
        val = KittiDataset(root, listed_frames(config.val, root, "data.val"))
    elif config.val_share:
        split = split_frames(main.names, main.meta, config.val_share)
        main, val = main.subset(split.train), main.subset(split.val)
    else:
        val = main
    train = [TrainingSet(main)]
    for extra in config.extra:
        names = listed_frames(extra.train, extra.root, "data.extra.train")
        frames = KittiDataset(extra.root, names)
        train.append(TrainingSet(frames, extra.share, extra.use_labels, extra.augment))
    return RunData(tuple(train), val)


def warn_of_shared_frames(data: RunData) -> None:
    """Say if frames are both trained on and validated on: such a validation says little."""
    for part in data.train:
        shared = set(part.frames.names) & set(data.val.names)
        if shared and part.frames.root == data.val.root:
            log.warning(
                "%d of %d frames to validate on are trained on as well, and say little: "
                "data.val_share holds some back", len(shared), len(data.val),
            )  # fmt: skip


def report_annotations(
    frames: KittiDataset, classes: Sequence[str], needs_objects: bool = True
) -> None:
    """Say how many objects there are, and what is left out.

    Raises:
        DataError: with `needs_objects`, there is none at all.
    """
    counts = dict.fromkeys(classes, 0)
    empty = []
    left_out: Counter[str] = Counter()
    for frame in frames:
        labels = frame.labels()
        left_out += unusable(labels)
        known = [label.type for label in usable(labels) if label.type in counts]
        for name in known:
            counts[name] += 1
        if not known:
            empty.append(frame.name)
    if needs_objects and not any(counts.values()):
        others = f" (left out: {describe_unusable(left_out)})" if left_out else ""
        raise DataError(
            f"{frames.root}: none of the {len(frames)} frames has a {', '.join(classes)} in its "
            f"label_2: there is nothing to learn{others}"
        )
    if left_out:
        log.warning("objects that are left out: %s", describe_unusable(left_out))
    if empty:
        log.warning(
            "%d of %d labelled frames have no object of the classes (first: %s)",
            len(empty), len(frames), empty[0],
        )  # fmt: skip
    text = ", ".join(f"{count} {name}" for name, count in counts.items())
    log.info("%d labelled frames with %s", len(frames), text)


def labelled_frames(frames: KittiDataset) -> KittiDataset | None:
    """Those of the frames that have a label file; None if there is none."""
    names = frames.names_with("label_2")
    return frames.subset(names) if names else None


def frames_with_lidar(frames: KittiDataset) -> KittiDataset:
    """Those of the validation frames that have LiDAR; `DataError` if there is none."""
    without_lidar = set(frames.without_lidar())
    if len(without_lidar) == len(frames):
        raise DataError(
            f"{frames.root}: none of the {len(frames)} frames to validate on has labels or LiDAR: "
            "there is nothing to compare with"
        )
    return frames.subset([name for name in frames.names if name not in without_lidar])


def frames_to_learn_from(part: TrainingSet, settings: DistillConfig) -> KittiDataset:
    """The frames that can teach something; counts those that can't, or not all.

    Frame by frame there may be label files and LiDAR, or not.

    Raises:
        DataError: none has LiDAR.
        ConfigError: a frame without LiDAR, or without labels, would teach nothing in one of the
            phases.
    """
    frames = part.frames
    frames.require(("image_2", "calib"))
    without_lidar = frames.without_lidar()
    labelled = labelled_frames(frames) if part.use_labels else None
    labels = set(labelled.names) if labelled is not None else set()
    if len(without_lidar) == len(frames):
        raise DataError(
            f"{frames.root}: none of the {len(frames)} frames has LiDAR: there is nothing for the "
            "teacher to see; give frames with velodyne, or train with task: detector"
        )
    nothing = [name for name in without_lidar if name not in labels]
    if nothing:
        log.warning(
            "%d of %d frames have neither LiDAR nor labels and are skipped (first: %s)",
            len(nothing), len(frames), nothing[0],
        )  # fmt: skip
    left = [name for name in without_lidar if name in labels]
    detects = all("det" in phase.parts for phase in settings.phases)
    if left and settings.without_lidar == "use" and not detects:
        raise ConfigError(
            f"{len(left)} of {len(frames)} frames have no LiDAR (first: {left[0]}) and teach "
            "nothing in a phase without det: set distill.without_lidar to skip"
        )
    if left:
        log.warning(
            "%d of %d frames have no LiDAR and are %s (first: %s)", len(left), len(frames),
            "used without the teacher" if settings.without_lidar == "use" else "skipped", left[0],
        )  # fmt: skip
    unused = set(nothing if settings.without_lidar == "use" else without_lidar)
    used = [name for name in frames.names if name not in unused]
    unlabelled = [name for name in used if name not in labels]
    by_boxes = settings.unlabelled == "boxes"
    if unlabelled and not by_boxes and any(phase.parts == {"det"} for phase in settings.phases):
        raise ConfigError(
            f"{len(unlabelled)} of {len(frames)} frames have no labels (first: {unlabelled[0]}) "
            "and teach nothing in a phase that has det alone: set distill.unlabelled to boxes"
        )
    log.info(
        "%d frames: %d with labels, %d with LiDAR; the teacher's %s are the labels of %d",
        len(used), len(used) - len(unlabelled), len(frames) - len(without_lidar),
        "boxes" if by_boxes else "answers", len(unlabelled),
    )  # fmt: skip
    return frames.subset(used)


def frames_without_teacher(part: TrainingSet, settings: DistillConfig) -> KittiDataset:
    """The frames that teach a student without a teacher: by labels, or by LiDAR their depth.

    `DataError` if there is none.
    """
    frames = part.frames
    frames.require(("image_2", "calib"))
    labelled = labelled_frames(frames) if part.use_labels else None
    used = set(labelled.names) if labelled is not None else set()
    if settings.parts & {"depth_image", "bins"}:
        used |= set(frames.names) - set(frames.without_lidar())
    if not used:
        raise DataError(
            f"{frames.root}: none of the {len(frames)} frames has labels: without a teacher there "
            "is nothing to learn"
        )
    if len(used) < len(frames):
        unused = next(name for name in frames.names if name not in used)
        log.warning(
            "%d of %d frames teach nothing without a teacher and are skipped (first: %s)",
            len(frames) - len(used), len(frames), unused,
        )  # fmt: skip
    return frames.subset([name for name in frames.names if name in used])
