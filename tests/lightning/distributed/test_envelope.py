"""An error that one process met can be raised in another as what it was."""

from __future__ import annotations

import threading

import pytest

from edgeml_client.errors import ModelMismatchError, RequestRefusedError, RoundClosedError
from edgeml_lightning.distributed.envelope import Failed
from edgeml_lightning.errors import FederationError, NoRoundAssignedError


def arrived(error: BaseException) -> Exception:
    return Failed.of(error, rank=0).error()


def test_a_refusal_keeps_what_a_caller_decides_by() -> None:
    """Its class and attributes; its message is made of them, and ``args`` alone would not rebuild it."""
    refusal = RoundClosedError(method="POST", url="/rounds/1", status_code=410, detail="too late")

    error = arrived(refusal)

    assert isinstance(error, RoundClosedError)
    assert (error.status_code, str(error)) == (410, "POST /rounds/1 answered 410: too late")
    assert isinstance(error, RequestRefusedError)


@pytest.mark.parametrize(
    "error",
    [
        NoRoundAssignedError(model="digits", waited_s=3.0),
        ModelMismatchError("it does not fit:", ["a: absent", "b: absent"]),
        KeyError("w"),
        FileNotFoundError(2, "No such file"),
    ],
)
def test_errors_arrive_with_their_class_and_words(error: Exception) -> None:
    assert (type(arrived(error)), str(arrived(error))) == (type(error), str(error))


def test_it_is_noted_where_it_happened() -> None:
    assert arrived(ValueError("no such layer")).__notes__ == ["This happened in process 0 of the training."]


def test_an_interrupt_of_one_process_is_none_of_another() -> None:
    error = arrived(KeyboardInterrupt())

    assert type(error) is FederationError
    assert "process 0 ended with KeyboardInterrupt" in str(error)


def test_what_cannot_travel_is_told_in_words() -> None:
    """A class that another process cannot find, and an attribute that cannot leave this one."""

    class LocalError(Exception):
        pass

    holding = ValueError("stuck")
    holding.lock = threading.Lock()  # type: ignore[attr-defined]

    assert str(arrived(LocalError("here"))) == "process 0 ended with LocalError: here"
    assert str(arrived(holding)) == "process 0 ended with ValueError: stuck"
