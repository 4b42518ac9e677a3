"""Lines on what limits the numbers of `kitti_ap` for some frames."""

from collections import Counter
from pathlib import Path

from kd3d_core.data.labels import describe_unusable
from kd3d_core.evaluation.kitti_ap import POSITIONS, KittiAP
from kd3d_core.evaluation.kitti_files import LabelledFrames
from kd3d_core.evaluation.kitti_rules import LEVELS, exclusions
from kd3d_core.evaluation.objects import DONT_CARE, Objects


def ap_notes(
    frames: LabelledFrames, result: KittiAP, detections: Path, all_frames: bool
) -> list[str]:
    """One line for each thing that limits the numbers.

    >>> from kd3d_core.evaluation.kitti_ap import evaluate
    >>> frames = LabelledFrames(("000000",), [[]], [[]], without_file=(), left_out=())
    >>> ap_notes(frames, evaluate([[]], [[]]), Path("detections"), all_frames=True)
    ['car, pedestrian, cyclist have no AP: there is no label in any of 1 frames']

    Args:
        all_frames: whether all frames that have labels are evaluated, and not those of a list.
    """
    notes = without_ap(Objects.from_frames(frames.ground_truth), result)
    if frames.unusable:
        notes.append(f"labels that no class counts: {describe_unusable(frames.unusable)}")
    if len(frames.without_file) == len(frames.names):
        notes.append(
            f"{detections} holds no detection file (*.txt), so all frames count as without "
            "detections: is it the right folder?"
        )
    elif frames.without_file:
        notes.append(
            f"{len(frames.without_file)} of {len(frames.names)} frames have no file in "
            f"{detections} and count as without detections, the first is {frames.without_file[0]}"
        )
    if all_frames and frames.left_out:
        notes.append(
            f"{len(frames.left_out)} detection files have no labels and were left out, the first "
            f"is {frames.left_out[0]}"
        )
    few = [
        f"{name} {level} ({count} objects, at most {100 * (count - 1) / (POSITIONS - 1):g})"
        for name, counts in result.objects.items()
        for level, count in zip(LEVELS, counts, strict=True)
        if 0 < count < POSITIONS
    ]
    if few:
        notes.append(f"too few objects for R40 to reach 100: {', '.join(few)}")
    if frames.has_ground_dont_care:
        notes.append(
            "DontCare lines have the tracking set's -1000 as size: in bev the devkit, and so this, "
            "takes that for an area around the camera where no detection is wrong; trust 3d"
        )
    return notes


def without_ap(labels: Objects, result: KittiAP) -> list[str]:
    """Why classes have no AP: a line for each that has labels, and one for all that have none.

    >>> from kd3d_core.data.labels import Label
    >>> from kd3d_core.evaluation.kitti_ap import evaluate
    >>> car = Label.parse("Car 0 0 0  0 0 0 0  1.5 1.6 4.0  2.0 1.7 20.0  0", "example")
    >>> for line in without_ap(Objects.from_frames([[car, car]]), evaluate([[car, car]], [[]])):
    ...     print(line)
    car has no AP (easy, moderate, hard): of 2 labels, 2 without 2D box
    pedestrian, cyclist have no AP: no label has the class; there are 2 car
    """
    lines, absent = [], []
    for name, counts in result.objects.items():
        empty = [level for level, count in enumerate(counts) if not count]
        is_class = labels.type == name
        if not is_class.any():
            absent.append(name)
        elif empty:
            remaining, reasons = is_class, []
            for reason, excluded in exclusions(labels, empty[-1]).items():
                if count := int((remaining & excluded).sum()):
                    reasons.append(f"{count} {reason}")
                remaining = remaining & ~excluded
            levels = ", ".join(LEVELS[level] for level in empty)
            lines.append(
                f"{name} has no AP ({levels}): of {is_class.sum()} labels, {', '.join(reasons)}"
            )
    if absent:
        others = Counter(labels.type[labels.type != DONT_CARE].tolist())
        listed = ", ".join(f"{count} {name}" for name, count in others.most_common(5))
        reason = f"no label has the class; there are {listed}"
        if not others:
            reason = f"there is no label in any of {result.frames} frames"
        verb = "has" if len(absent) == 1 else "have"
        lines.append(f"{', '.join(absent)} {verb} no AP: {reason}")
    return lines
