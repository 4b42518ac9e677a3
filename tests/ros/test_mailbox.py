"""The newest item wins, and what is lost is counted."""

from collections.abc import Iterator
from threading import Thread

import pytest

from kd3d_ros.mailbox import Mailbox


@pytest.fixture
def mailbox() -> Iterator[Mailbox[int]]:
    mailbox: Mailbox[int] = Mailbox()
    mailbox.open()
    yield mailbox
    mailbox.close()


def test_newest_wins(mailbox: Mailbox[int]) -> None:
    for item in (1, 2, 3):
        mailbox.put(item)
    assert mailbox.take() == 3
    assert mailbox.dropped == 2
    assert mailbox.take(timeout_s=0.01) is None


def test_take_waits_for_put(mailbox: Mailbox[int]) -> None:
    taken: list[int | None] = []
    taker = Thread(target=lambda: taken.append(mailbox.take()))
    taker.start()
    mailbox.put(7)
    taker.join(5)
    assert taken == [7]


def test_close_wakes_the_taker(mailbox: Mailbox[int]) -> None:
    taken: list[int | None] = []
    taker = Thread(target=lambda: taken.append(mailbox.take()))
    taker.start()
    mailbox.close()
    taker.join(5)
    assert taken == [None]


def test_close_drops_what_is_inside(mailbox: Mailbox[int]) -> None:
    mailbox.put(1)
    mailbox.close()
    assert mailbox.take() is None
    mailbox.put(2)
    assert mailbox.take() is None
    assert mailbox.dropped == 2


def test_opens_again(mailbox: Mailbox[int]) -> None:
    mailbox.close()
    mailbox.open()
    mailbox.put(3)
    assert mailbox.take() == 3
    assert mailbox.dropped == 0


def test_every_item_is_taken_or_dropped(mailbox: Mailbox[int]) -> None:
    taken: list[int] = []

    def work() -> None:
        while (item := mailbox.take()) is not None:
            taken.append(item)

    worker = Thread(target=work)
    worker.start()
    for item in range(10_000):
        mailbox.put(item)
    mailbox.close()
    worker.join(5)
    assert len(taken) + mailbox.dropped == 10_000
    assert taken == sorted(taken)
