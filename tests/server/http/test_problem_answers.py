"""Every refusal is JSON with one sentence, a stable code and the request's name."""

from __future__ import annotations

import asyncio
import logging

import httpx
import pytest
from fastapi import FastAPI

from edgeml_client.testing import FakeClock
from edgeml_server import EmbeddedServer
from edgeml_server._http.problems import answer_problems, validation_sentence
from edgeml_server._http.request_id import RequestIdMiddleware
from edgeml_server.errors import ControlPlaneError


def test_an_unknown_address_says_what_was_not_found(http: httpx.Client) -> None:
    answer = http.get("/nothing", headers={"X-Request-ID": "mine-1"})

    assert answer.status_code == 404
    assert answer.json() == {
        "detail": "this control plane does not serve GET /api/v1/nothing",
        "code": "not_found",
        "request_id": "mine-1",
    }


def test_a_wrong_method_says_which_are_right(http: httpx.Client) -> None:
    answer = http.put("/device-auth/refresh", json={})

    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
    assert answer.headers["Allow"] == "POST"


def test_a_field_that_is_wrong_is_named_in_one_sentence(http: httpx.Client) -> None:
    answer = http.post("/device-auth/refresh", json={"token": "x"})

    assert answer.status_code == 422
    assert answer.json()["code"] == "invalid_content"
    assert answer.json()["detail"] == (
        "the request is not valid: refresh_token: field required; token: extra inputs are not permitted"
    )


def test_what_was_sent_is_not_repeated_in_a_refusal_for_it_may_be_secret(http: httpx.Client) -> None:
    answer = http.post("/device-auth/refresh", json={"refresh_token": ["edgeml_rt_secret"]})

    assert answer.status_code == 422
    assert "edgeml_rt_secret" not in answer.text


@pytest.mark.parametrize("body", [b'{"refresh_token": "edg', b"", b"\xff\xfe", b"[" * 100_000])
def test_a_body_that_is_cut_short_or_garbled_is_a_bad_request(http: httpx.Client, body: bytes) -> None:
    headers = {"Content-Type": "application/json"}

    answer = http.post("/device-auth/refresh", content=body, headers=headers)

    assert answer.status_code in {400, 422}
    assert set(answer.json()) == {"detail", "code", "request_id"}


def test_many_problems_are_not_all_listed() -> None:
    errors = [{"loc": ("body", f"f{i}"), "msg": "Field required"} for i in range(8)]

    sentence = validation_sentence(errors)

    assert sentence.count("field required") == 5
    assert sentence.endswith("and 3 more")


def test_a_failure_nobody_expected_is_answered_without_its_cause_and_logged_with_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = FastAPI()
    answer_problems(app)
    app.add_middleware(RequestIdMiddleware, clock=FakeClock())

    @app.get("/fail")
    def fail() -> None:
        raise RuntimeError("the cause")

    async def get() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
            return await client.get("/fail", headers={"X-Request-ID": "mine-2"})

    with caplog.at_level(logging.ERROR):
        answer = asyncio.run(get())

    assert answer.status_code == 500
    assert (answer.json()["code"], answer.json()["request_id"]) == ("internal_error", "mine-2")
    assert "the cause" not in answer.text
    assert "the cause" in caplog.text
    assert "mine-2" in caplog.text


def test_each_refusal_has_its_status_and_code() -> None:
    kinds = ControlPlaneError.__subclasses__()

    assert len({kind.status_code for kind in kinds}) == len(kinds)
    assert len({kind.code for kind in kinds}) == len(kinds)


class TestRequestNames:
    def test_a_request_without_a_name_gets_one(self, server: EmbeddedServer) -> None:
        first, second = (httpx.get(f"{server.url}/health").headers["X-Request-ID"] for _ in range(2))

        assert first != second

    def test_a_plain_name_is_kept(self, server: EmbeddedServer) -> None:
        answer = httpx.get(f"{server.url}/health", headers={"X-Request-ID": "run-7.a:b_c"})

        assert answer.headers["X-Request-ID"] == "run-7.a:b_c"

    @pytest.mark.parametrize("name", ["", "a b", "<script>", "x" * 129])
    def test_a_name_that_could_do_harm_in_a_log_is_replaced(self, server: EmbeddedServer, name: str) -> None:
        answer = httpx.get(f"{server.url}/health", headers={"X-Request-ID": name})

        assert answer.headers["X-Request-ID"] != name


class TestTheAccessLog:
    def test_has_a_line_for_each_request_without_its_query(
        self, server: EmbeddedServer, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.INFO, logger="edgeml_server.access"):
            httpx.get(f"{server.url}/health?secret=hunter2", headers={"X-Request-ID": "mine-3"})

        (line,) = [record.getMessage() for record in caplog.records if "mine-3" in record.getMessage()]
        assert line.startswith("200 GET /health ")
        assert "hunter2" not in line

    def test_does_not_hold_what_would_open_a_signed_link(
        self, server: EmbeddedServer, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.INFO, logger="edgeml_server.access"):
            httpx.get(f"{server.api_base}/files/ticket.signature", headers={"X-Request-ID": "mine-4"})

        (line,) = [record.getMessage() for record in caplog.records if "mine-4" in record.getMessage()]
        assert line.startswith("403 GET /api/v1/files/... ")


def test_the_calls_are_described_for_tools(server: EmbeddedServer) -> None:
    description = httpx.get(f"{server.url}/openapi.json").json()

    assert "/api/v1/models/{model_id}/versions/upload" in description["paths"]
