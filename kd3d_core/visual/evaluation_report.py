"""The page of `kd3d-eval report`: AP, curves, kinds of errors, depth errors, and frames."""

from collections.abc import Callable, Sequence

from kd3d_core.evaluation.report import Evaluation
from kd3d_core.visual.evaluation_ap import ap_sections, car_ap, depth_sections
from kd3d_core.visual.evaluation_errors import error_sections
from kd3d_core.visual.evaluation_frames import FramePictures, frame_sections
from kd3d_core.visual.page import Page


def evaluation_page(
    evaluation: Evaluation,
    pictures: FramePictures | None,
    most: int = 12,
    notes: Sequence[str] = (),
    advance: Callable[[], None] = lambda: None,
) -> Page:
    """The page of an evaluation.

    Args:
        pictures: what frames are drawn from; without it they are a table.
        most: how many of the worst frames the page shows.
        advance: called for each frame that was drawn.

    Raises:
        DataError: a frame to draw has no image or calibration, or a file is malformed.
    """
    runs = evaluation.runs
    sections = [
        *ap_sections(evaluation),
        *error_sections(evaluation),
        *depth_sections(runs),
        *frame_sections(evaluation, pictures, most, advance),
    ]
    overall = runs[0].breakdown.overall
    facts = [("frames", str(overall.frames)), ("overlap", overall.iou)]
    facts += [
        (f"{name} labels (hard)", str(overall.objects[name][-1])) for name in evaluation.classes
    ]
    facts += [(f"car 3D moderate, {run.name}", car_ap(run)) for run in runs]
    lead = " and ".join(run.name for run in runs)
    lead += ", evaluated by KITTI's rules" + (", side by side." if runs[1:] else ".")
    return Page("Evaluation", lead, tuple(facts), tuple(sections), notes=tuple(notes))
