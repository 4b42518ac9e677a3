"""How topics are offered, as bags and tables of outputs say it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class QosProfile:
    """How a topic is offered; names as in ROS, in lower case.

    Attributes:
        reliability: `reliable` or `best_effort`; others count as `reliable` when played.
        durability: `volatile` or `transient_local`.
        history: `keep_last` or `keep_all`.
        depth: messages kept, for `keep_last`.
    """

    reliability: str = "reliable"
    durability: str = "volatile"
    history: str = "keep_last"
    depth: int = 10

    @property
    def is_latched(self) -> bool:
        """Whether subscribers that come late still get the last messages."""
        return self.durability == "transient_local"


LATCHED = QosProfile(durability="transient_local", depth=1)
"""What `/tf_static` needs, so that whoever comes late still gets it."""
