"""`kd3d-eval tracking`: tracks by HOTA and MOTA."""

import math
from pathlib import Path
from typing import Literal

from kd3d_core.cli.table import print_table
from kd3d_core.errors import Kd3dError
from kd3d_core.files import write_json


def tracking(
    *,
    labels: Path,
    tracks: Path,
    similarity: Literal["3d", "bev", "bbox", "distance"] = "3d",
    threshold: float | None = None,
    json: Path | None = None,
) -> None:
    """HOTA and MOTA of tracks, with the rules of KITTI's tracking benchmark.

    Several sequences count as one.

    Args:
        labels: label file of a sequence in the format of KITTI's tracking set, or folder of them.
        tracks: file of tracks, as `kd3d-detect --tracks` writes it, or folder with the same names.
        similarity: what makes a track like an object: intersection over union in space (3d), over
            ground (bev) or in the image (bbox, as KITTI has it); or the distance of the centres
            over ground, which makes 1 at 0 m and 0 at 4 m.
        threshold: from which similarity on a track is that of an object, for MOTA; default: 0.25
            for 3d and bev, 0.5 for bbox and distance (2 m).
        json: write the result to this file too.
    """
    from kd3d_core.classes import BENCHMARK_CLASSES
    from kd3d_core.evaluation.tracking import clear_mot, hota
    from kd3d_core.evaluation.tracking_frames import THRESHOLDS, read_sequences

    least = THRESHOLDS[similarity] if threshold is None else threshold
    if not 0 < least <= 1:
        raise Kd3dError(f"--threshold {least:g}: similarities are above 0 and at most 1")
    frames = read_sequences(labels, tracks)
    result = {}
    for name in BENCHMARK_CLASSES:
        pairs = frames.pairs(name, similarity, least)
        if any(len(pair.truth) + len(pair.tracks) for pair in pairs):
            mot = clear_mot(pairs, least)
            result[name.lower()] = {
                **{key: 100 * value for key, value in hota(pairs).means().items()},
                "mota": 100 * mot.mota,
                "motp": 100 * mot.motp,
                "switches": mot.switches,
                "misses": mot.misses,
                "false": mot.false,
                "boxes": mot.matches + mot.misses,
                "objects": mot.objects,
                "mostly_tracked": mot.mostly_tracked,
                "mostly_lost": mot.mostly_lost,
            }
    _print(frames.count, f"{similarity}, MOTA from {least:g} on", result)
    for note in frames.notes:
        print(f"note: {note}")
    if json is not None:
        numbers = {
            name: {key: None if math.isnan(value) else value for key, value in row.items()}
            for name, row in result.items()
        }
        settings = {"similarity": similarity, "threshold": least, "frames": frames.count}
        write_json(json, {**settings, "classes": numbers})


_COLUMNS = {
    **{"hota": "HOTA", "det_a": "DetA", "ass_a": "AssA", "loc_a": "LocA", "mota": "MOTA"},
    **{"motp": "MOTP", "switches": "IDSW", "misses": "missed", "false": "false"},
    **{"boxes": "boxes", "objects": "objects", "mostly_tracked": "MT", "mostly_lost": "ML"},
}


def _print(frames: int, what: str, result: dict[str, dict[str, float]]) -> None:
    print(f"{frames} frames, similarity {what}, in percent")
    if not result:
        print("neither labels nor tracks of any class that is evaluated")
        return
    rows = [(name, *(_text(row[column]) for column in _COLUMNS)) for name, row in result.items()]
    print_table([("class", *_COLUMNS.values()), *rows])


def _text(value: float) -> str:
    if math.isnan(value):
        return "-"
    return f"{value:.2f}" if isinstance(value, float) else str(value)
