"""The messages of a topic that may become parts of frames, and what becomes of the others."""

from collections import Counter
from collections.abc import Collection, Mapping

import numpy as np

from kd3d_core.extract.config import Clock
from kd3d_core.extract.index import TopicIndex
from kd3d_core.extract.plan import MessageRef
from kd3d_core.extract.summary import Tally
from kd3d_core.extract.sync import Times, as_array, usable

UNWANTED = "left out by --every"
TOO_NEAR = "too near to the frame before, by --min-motion"
NO_FRAME = "in no frame"
NO_POSE = "without a transform for that time"
BEHIND_DAMAGE = "behind the place where reading stopped"


class Candidates:
    """The messages of a topic that may become parts of frames, by their numbers in its index.

    Attributes:
        index: of the topic.
        stamps: `(N,)` int64, by the clock of the extraction.
        recorded: `(N,)` int64.
        kept: numbers of those that can be told apart by their stamps.
        rejected: how many can't be used, by reason.
    """

    def __init__(self, index: TopicIndex, count: int, clock: Clock) -> None:
        """`count` is how many messages the recording says there are."""
        self.index = index
        self.recorded = as_array(index.recorded_ns)
        self.stamps = self.recorded if clock == "record" else as_array(index.stamp_ns)
        self.kept, unusable = usable(self.stamps)
        self.rejected = Counter(unusable) + index.rejected
        if lacking := count - index.count:
            self.rejected[BEHIND_DAMAGE] = lacking

    def times(self, numbers: np.ndarray) -> Times:
        """When some of them were measured and recorded."""
        return Times(self.stamps[numbers], self.recorded[numbers])

    def ref(self, number: int) -> MessageRef:
        """One of them, as plans name it."""
        return MessageRef(
            int(self.recorded[number]), self.index.repeat[number], int(self.stamps[number])
        )

    def frame_id(self, number: int) -> str:
        """The coordinate frame that its header names; may be empty."""
        return self.index.frames[self.index.frame[number]]

    def tally(self, fates: Mapping[int, str], used: Collection[int]) -> Tally:
        """What becomes of those that aren't `used` in a frame.

        `fates` says why, by their numbers; the reason `NO_POSE` rejects, others skip.
        """
        skipped = Counter(
            fates.get(number, NO_FRAME) for number in self.kept.tolist() if number not in used
        )
        rejected = Counter(self.rejected)
        if lost := skipped.pop(NO_POSE, 0):
            rejected[NO_POSE] = lost
        return Tally(0, dict(skipped), dict(rejected))
