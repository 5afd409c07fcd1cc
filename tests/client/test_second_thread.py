"""A second thread works on a piece while the first one uses it and makes the next."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import closing
from typing import cast

import pytest

from edgeml_client.second_thread import in_second_thread


def test_a_piece_is_worked_on_while_it_is_used() -> None:
    """The work on a piece ends only when that piece has arrived here: one after the other, neither would."""
    arrived = [threading.Event() for _ in range(3)]
    workers = list[int]()

    def work(piece: threading.Event) -> None:
        assert piece.wait(timeout=10)
        workers.append(threading.get_ident())

    for piece in in_second_thread(work, arrived):
        piece.set()

    assert len(workers) == 3
    assert len({*workers, threading.get_ident()}) == 2


def test_the_work_on_a_piece_is_done_before_the_next_one_arrives() -> None:
    """So that two buffers are enough, which take turns."""
    done = list[int]()

    for piece in in_second_thread(done.append, range(100)):
        assert done[:piece] == list(range(piece))

    assert done == list(range(100))


@pytest.mark.parametrize("bad", [0, 1, 2], ids=["first", "middle", "last"])
def test_what_the_work_raises_is_raised_here_and_no_piece_comes_after_it(bad: int) -> None:
    received = list[int]()

    def work(piece: int) -> None:
        if piece == bad:
            raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        received.extend(in_second_thread(work, range(3)))

    assert received == list(range(bad + 1))


def test_the_thread_ends_with_the_one_who_stops_asking() -> None:
    before = threading.active_count()

    with closing(cast("Generator[int]", in_second_thread(lambda _: None, range(3)))) as pieces:
        next(pieces)

    assert threading.active_count() == before
