"""A creating call with an Idempotency-Key happens once, however often it is sent."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from edgeml_server import EmbeddedServer
from edgeml_server._http.idempotency import RepeatableCall, once
from edgeml_server.db import Database
from edgeml_server.errors import ContradictionError

NOW = datetime(2030, 1, 1, tzinfo=UTC)
CALL = RepeatableCall(key="k-1", path="/models", body_digest="sha256:aa")


def run(
    database: Database, call: RepeatableCall, made: list[int], *, org: str = "a", now: datetime = NOW
) -> int:
    def create() -> int:
        made.append(len(made))
        return made[-1]

    with database.unit_of_work() as work:
        return once(work, org, call, int, create, now=now)


def test_the_repetition_answers_what_the_first_did(database: Database) -> None:
    made: list[int] = []

    assert [run(database, CALL, made) for _ in range(3)] == [0, 0, 0]
    assert made == [0]


def test_without_a_key_every_call_is_a_new_one(database: Database) -> None:
    made: list[int] = []

    assert [run(database, RepeatableCall(None, "/models", "sha256:aa"), made) for _ in range(2)] == [0, 1]


@pytest.mark.parametrize(
    "other",
    [RepeatableCall("k-1", "/models", "sha256:bb"), RepeatableCall("k-1", "/tokens", "sha256:aa")],
)
def test_a_key_is_good_for_one_call_only(database: Database, other: RepeatableCall) -> None:
    run(database, CALL, [])

    with pytest.raises(ContradictionError, match="draw a new one"):
        run(database, other, [])


def test_organizations_do_not_share_keys(database: Database) -> None:
    run(database, CALL, [], org="a")

    assert run(database, CALL, [7], org="b") == 1


def test_a_call_that_failed_may_be_sent_again(database: Database) -> None:
    def fail() -> int:
        raise ContradictionError("not yet")

    with pytest.raises(ContradictionError, match="not yet"), database.unit_of_work() as work:
        once(work, "a", CALL, int, fail, now=NOW)

    assert run(database, CALL, []) == 0


def test_an_answer_is_kept_for_a_day(database: Database) -> None:
    made: list[int] = []
    run(database, CALL, made)
    run(database, RepeatableCall("k-2", "/models", "sha256:aa"), made, now=NOW + timedelta(days=1, seconds=1))

    assert run(database, CALL, made, now=NOW + timedelta(days=1, seconds=1)) == 2


def test_sent_many_times_at_once_it_still_happens_once(database: Database) -> None:
    made: list[int] = []
    answers: list[int] = []
    threads = [threading.Thread(target=lambda: answers.append(run(database, CALL, made))) for _ in range(6)]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert answers == [0] * 6
    assert made == [0]


def create_model(client: httpx.Client, name: str, key: str) -> httpx.Response:
    return client.post("/models", json={"name": name}, headers={"Idempotency-Key": key})


def test_over_http_a_lost_answer_is_answered_again(operator: httpx.Client) -> None:
    first, again = (create_model(operator, "digits", "key-1") for _ in range(2))
    other = create_model(operator, "faces", "key-1")

    assert first.status_code == again.status_code == 201
    assert first.json() == again.json()
    assert other.status_code == 409
    assert operator.get("/models").json()["total"] == 1


def test_over_http_an_upload_is_taken_in_once(operator: httpx.Client) -> None:
    model = operator.post("/models", json={"name": "digits"}).json()

    def upload(content: bytes) -> Any:
        return operator.post(
            f"/models/{model['id']}/versions/upload",
            data={"version": "1"},
            files={"file": ("m.onnx", content)},
            headers={"Idempotency-Key": "key-2"},
        )

    first, again, other = upload(b"abc"), upload(b"abc"), upload(b"abd")

    assert (first.status_code, again.status_code, other.status_code) == (201, 201, 409)
    assert first.json() == again.json()


def test_a_key_that_is_no_key_is_refused(server: EmbeddedServer, operator: httpx.Client) -> None:
    assert create_model(operator, "digits", "x" * 256).status_code == 422
