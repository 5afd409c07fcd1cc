"""Work on one piece of something large while the next piece is made."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

__all__ = ["in_second_thread"]

_Piece = TypeVar("_Piece")


def in_second_thread(work: Callable[[_Piece], object], pieces: Iterable[_Piece]) -> Iterator[_Piece]:
    """Yield pieces while a second thread works on them; it is done with one before the next is yielded.

    Args:
        work: Called with each piece in turn; what it raises is raised here.
        pieces: Each stays as it is until the next but one is asked for.

    Example:
        >>> seen = []
        >>> list(in_second_thread(seen.append, "abc")), seen
        (['a', 'b', 'c'], ['a', 'b', 'c'])
    """
    with ThreadPoolExecutor(1, thread_name_prefix="edgeml-piece") as second_thread:
        working: Future[object] | None = None
        for piece in pieces:
            if working is not None:
                working.result()
            working = second_thread.submit(work, piece)
            yield piece
        if working is not None:
            working.result()
