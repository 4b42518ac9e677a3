"""A mailbox with one slot: the newest item wins.

Between a camera that sends and a model that is slower, any longer queue only makes results old:
every frame in it waits for all those before it.
"""

import math
from threading import Condition
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Mailbox(Generic[Item]):
    """Hands items from one thread to another. It starts closed.

    Attributes:
        dropped: items that nobody will take: overtaken by a newer one, or put in or left inside
            when the mailbox was closed.
    """

    def __init__(self) -> None:
        self._changed = Condition()
        self._items: list[Item] = []  # none or one
        self._is_open = False
        self.dropped = 0

    def open(self) -> None:
        """Accept items again."""
        with self._changed:
            self._is_open = True

    def close(self) -> None:
        """Drop what is inside, and wake whoever waits in `take`."""
        with self._changed:
            self._is_open = False
            self.dropped += len(self._items)
            self._items.clear()
            self._changed.notify_all()

    def put(self, item: Item) -> None:
        """Leave `item`; one that still lies there is dropped. Never waits."""
        with self._changed:
            self.dropped += len(self._items) if self._is_open else 1
            self._items = [item] if self._is_open else []
            self._changed.notify_all()

    def take(self, timeout_s: float | None = None) -> Item | None:
        """Wait for an item and take it.

        Args:
            timeout_s: how long to wait at most; for ever if None.

        Returns:
            The item, or None when the mailbox is closed or the time is over.
        """
        with self._changed:
            self._changed.wait_for(lambda: bool(self._items) or not self._is_open, timeout_s)
            return self._items.pop() if self._items else None


class RateLimit:
    """Thins out a stream to a rate, without a beat where the stream's own rate is no multiple.

    >>> limit = RateLimit()
    >>> [limit.allows(0.1 * i, rate_hz=4.0) for i in range(8)]
    [True, False, True, False, True, False, False, True]
    """

    def __init__(self) -> None:
        self._due = -math.inf

    def allows(self, now_s: float, rate_hz: float) -> bool:
        """Whether what comes now may pass; a rate of 0 lets all pass."""
        if rate_hz <= 0:
            return True
        if now_s < self._due:
            return False
        # Due times keep their distance, but one who came late doesn't let two pass in a row.
        period_s = 1 / rate_hz
        self._due = max(self._due, now_s - period_s / 2) + period_s
        return True
