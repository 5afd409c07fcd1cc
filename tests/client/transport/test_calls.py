from __future__ import annotations

import gc
import logging
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from pydantic import SecretStr, TypeAdapter

from edgeml_client._transport import http
from edgeml_client._transport.http import HttpTransport
from edgeml_client.errors import (
    AuthError,
    ConfigurationError,
    ConnectionFailedError,
    InvalidResponseError,
    NotFoundError,
    RequestRefusedError,
    ServerFailedError,
    UnauthorizedError,
    UnprocessableError,
)
from edgeml_client.schemas import Model, Record, RefreshRequest, RevokeRequest, WireBody
from edgeml_client.testing import Reply, ScriptedServer

DEAD_END = "http://127.0.0.1:9/api/v1"


def test_an_answer_is_read_as_the_form_that_was_asked_for(
    server: ScriptedServer, transport: HttpTransport
) -> None:
    server.on("GET", "/models/m", Reply.of_json({"id": "m", "name": "digits"}))

    model = transport.call("GET", "/models/m", Model)

    assert (model.id, model["name"]) == ("m", "digits")


def test_a_form_may_be_anything_pydantic_can_read(server: ScriptedServer, transport: HttpTransport) -> None:
    server.on("GET", "/list", Reply.of_json([{"id": "a"}, {"id": "b"}]))

    answer = transport.call("GET", "/list", TypeAdapter(list[Record]))

    assert [record["id"] for record in answer] == ["a", "b"]


def test_an_empty_body_counts_as_an_empty_object(server: ScriptedServer, transport: HttpTransport) -> None:
    server.on("DELETE", "/models/m", Reply(status=204, body=b""))

    assert dict(transport.call("DELETE", "/models/m", Record)) == {}
    assert transport.call("DELETE", "/models/m", type(None)) is None


def test_the_query_leaves_out_what_is_none(server: ScriptedServer, transport: HttpTransport) -> None:
    server.on("GET", "/models", Reply())

    transport.call("GET", "/models", Record, params={"limit": 2, "force": True, "status": None})

    assert server.requests("GET", "/models")[0].query == {"limit": "2", "force": "true"}


def test_requests_carry_the_token_and_name_the_sdk(server: ScriptedServer, transport: HttpTransport) -> None:
    server.on("GET", "/models", Reply())

    transport.call("GET", "/models", Record)

    headers = server.requests("GET", "/models")[0].headers
    assert headers["authorization"] == "Bearer the-token"
    assert headers["user-agent"].startswith("edgeml-lightning/")


def test_without_a_provider_no_token_is_sent(server: ScriptedServer) -> None:
    server.on("GET", "/health", Reply())
    transport = HttpTransport(api_base=server.api_base + "/", auth_token_provider=None)

    transport.call("GET", "/health", Record)
    transport.close()

    assert "authorization" not in server.requests("GET", "/health")[0].headers


def test_a_schema_is_sent_as_json_without_what_is_none(
    server: ScriptedServer, transport: HttpTransport
) -> None:
    class Body(WireBody):
        name: str
        note: str | None = None

    server.on("POST", "/models", Reply())

    transport.call("POST", "/models", Record, body=Body(name="digits"))

    (exchange,) = server.requests("POST", "/models")
    assert exchange.json == {"name": "digits"}
    assert exchange.headers["content-type"] == "application/json"


def test_every_post_carries_a_key_of_its_own(server: ScriptedServer, transport: HttpTransport) -> None:
    server.on("POST", "/models", Reply())

    transport.call("POST", "/models", Record, body={})
    transport.call("POST", "/models", Record, body={})
    transport.call("POST", "/models", Record, body={}, idempotency_key="mine")

    first, second, third = (it.headers["idempotency-key"] for it in server.requests("POST", "/models"))
    assert first != second
    assert third == "mine"


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("bad", [Reply(drop=True), Reply(body=b'{"a": 1}', cut_after_bytes=3)])
def test_a_broken_connection_is_tried_again_under_the_same_key(
    server: ScriptedServer, transport: HttpTransport, method: str, bad: Reply
) -> None:
    server.on(method, "/thing", bad, bad, Reply.of_json({"id": "x"}))

    answer = transport.call(method, "/thing", Record, body=None if method == "GET" else {})

    tries = server.requests(method, "/thing")
    assert answer["id"] == "x"
    assert len(tries) == 3
    assert len({it.headers.get("idempotency-key") for it in tries}) == 1


@pytest.mark.parametrize("status", [408, 425, 429, 502, 503, 504])
def test_not_now_is_tried_again(server: ScriptedServer, transport: HttpTransport, status: int) -> None:
    server.on(
        "POST", "/thing", Reply(status=status, headers={"Retry-After": "1"}), Reply.of_json({"id": "x"})
    )

    assert transport.call("POST", "/thing", Record, body={})["id"] == "x"


@pytest.mark.parametrize("status", [400, 403, 404, 409, 410, 412, 413, 415, 422, 500, 501])
def test_no_is_final(server: ScriptedServer, transport: HttpTransport, status: int) -> None:
    server.on("POST", "/thing", Reply.of_json({"detail": "because of this"}, status=status))

    with pytest.raises(RequestRefusedError, match="because of this") as refused:
        transport.call("POST", "/thing", Record, body={})

    assert refused.value.status_code == status
    assert len(server.requests("POST", "/thing")) == 1


def test_after_the_last_try_the_servers_answer_is_shown(
    server: ScriptedServer, transport: HttpTransport
) -> None:
    busy = Reply.of_json({"detail": "too busy", "request_id": "r-7"}, status=503)
    server.on("GET", "/thing", busy)

    with pytest.raises(ServerFailedError, match=r"GET http://127.*/thing answered 503: too busy") as failed:
        transport.call("GET", "/thing", Record)

    assert len(server.requests("GET", "/thing")) == 4
    assert failed.value.request_id == "r-7"


def test_a_retry_is_logged_so_that_people_understand_it(
    server: ScriptedServer, transport: HttpTransport, caplog: pytest.LogCaptureFixture
) -> None:
    server.on("GET", "/thing", Reply(status=503), Reply())

    transport.call("GET", "/thing", Record)

    (message,) = [record.getMessage() for record in caplog.records if record.name == "stamina"]
    assert "/thing answered 503" in message
    assert "trying again in" in message


def test_a_server_that_wants_minutes_of_patience_gets_no_second_try(
    server: ScriptedServer, transport: HttpTransport
) -> None:
    server.on("GET", "/thing", Reply(status=503, headers={"Retry-After": "600"}))

    with pytest.raises(ServerFailedError):
        transport.call("GET", "/thing", Record)

    assert len(server.requests("GET", "/thing")) == 1


def test_where_nothing_answers_the_error_names_the_address_and_the_remedy() -> None:
    transport = HttpTransport(api_base=DEAD_END, auth_token_provider=None, max_attempts=2)

    with pytest.raises(
        ConnectionFailedError, match=r"127\.0\.0\.1:9/api/v1/x after 2 tries.*EDGEML_API_BASE"
    ):
        transport.call("GET", "/x", Record)


def test_a_server_that_hangs_is_given_up(server: ScriptedServer) -> None:
    server.on("GET", "/thing", Reply(wait_for=threading.Event()))
    transport = HttpTransport(
        api_base=server.api_base, auth_token_provider=None, timeout=0.05, max_attempts=2
    )

    with pytest.raises(ConnectionFailedError, match=r"2 tries \(timed out\)"):
        transport.call("GET", "/thing", Record)
    transport.close()


def test_a_server_that_always_hangs_up_is_given_up(server: ScriptedServer, transport: HttpTransport) -> None:
    server.on("GET", "/thing", Reply(body=b'{"id": "x"}', cut_after_bytes=4))

    with pytest.raises(ConnectionFailedError, match="after 4 tries"):
        transport.call("GET", "/thing", Record)


def test_a_web_page_is_no_answer(server: ScriptedServer, transport: HttpTransport) -> None:
    page = "<html><head><script>var a = 1;</script></head><body><h1>Welcome to nginx!</h1>" + "x" * 9_000
    server.on("GET", "/thing", Reply(body=page.encode(), headers={"Content-Type": "text/html"}))

    with pytest.raises(InvalidResponseError) as invalid:
        transport.call("GET", "/thing", Record)

    message = str(invalid.value)
    assert "text/html" in message
    assert "Welcome to nginx!" in message
    assert "EDGEML_API_BASE" in message
    assert "<" not in message
    assert "var a" not in message
    assert len(message) < 600


def test_a_web_page_in_an_error_is_shortened(server: ScriptedServer, transport: HttpTransport) -> None:
    page = b"<html><title>502 Bad Gateway</title>" + b"<p>sorry" * 5_000
    server.on("GET", "/thing", Reply(status=502, body=page, headers={"Content-Type": "text/html"}))

    with pytest.raises(ServerFailedError, match="502 Bad Gateway") as failed:
        transport.call("GET", "/thing", Record)

    assert len(str(failed.value)) < 500
    assert "<" not in str(failed.value)


def test_an_answer_that_does_not_end_is_cut_off(
    server: ScriptedServer, transport: HttpTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "MAX_ANSWER_BYTES", 1_000)
    server.on("GET", "/thing", Reply(body=b"[" * 100_000))

    with pytest.raises(InvalidResponseError, match="more than 1000 bytes"):
        transport.call("GET", "/thing", Record)


def test_an_answer_of_another_form_names_the_field_and_hides_the_value(
    server: ScriptedServer, transport: HttpTransport
) -> None:
    server.on("GET", "/models/m", Reply.of_json({"id": ["the-secret"], "name": "digits"}))

    with pytest.raises(InvalidResponseError, match=r"wire contract says .id:") as invalid:
        transport.call("GET", "/models/m", Model)

    assert "the-secret" not in str(invalid.value)


def test_a_list_of_complaints_reads_as_a_sentence(server: ScriptedServer, transport: HttpTransport) -> None:
    complaints = [{"loc": ["body", "version"], "msg": "Field required"}, "and another"]
    server.on("POST", "/models", Reply.of_json({"detail": complaints}, status=422))

    with pytest.raises(UnprocessableError, match=r"body\.version: Field required; and another"):
        transport.call("POST", "/models", Record, body={})


@pytest.mark.parametrize("body", [b"", b"[1]", b'{"error": "x"}', b'{"detail": ""}', b"\xff\xfe"])
def test_a_refusal_without_a_reason_still_says_what_to_do(
    server: ScriptedServer, transport: HttpTransport, body: bytes
) -> None:
    server.on("GET", "/thing", Reply(status=404, body=body))

    with pytest.raises(RequestRefusedError, match="check the id"):
        transport.call("GET", "/thing", Record)


def test_an_address_outside_the_api_gets_a_hint_even_with_a_reason(server: ScriptedServer) -> None:
    """A control plane gives a reason for each 404; that of a path it does not know says little."""
    transport = HttpTransport(api_base=server.url, auth_token_provider=None)

    with pytest.raises(NotFoundError, match=r"/thing answered 404: no script .*end in /api/v1"):
        transport.call("GET", "/thing", Record)
    with pytest.raises(NotFoundError, match=r"404: no script for this address$"):
        transport.call("GET", "/api/v1/thing", Record)
    transport.close()


def test_the_header_names_the_request(server: ScriptedServer, transport: HttpTransport) -> None:
    server.on("GET", "/thing", Reply.of_json({"detail": "no"}, status=400, headers={"X-Request-ID": "r-1"}))

    with pytest.raises(RequestRefusedError, match=r"\(request r-1\)"):
        transport.call("GET", "/thing", Record)


def test_a_refused_token_is_replaced_once(server: ScriptedServer) -> None:
    tokens = iter(["old", "new"])
    server.on("POST", "/thing", Reply(status=401), Reply.of_json({"id": "x"}))
    transport = HttpTransport(api_base=server.api_base, auth_token_provider=lambda: next(tokens))

    answer = transport.call("POST", "/thing", Record, body={"a": 1})
    transport.close()

    first, second = server.requests("POST", "/thing")
    assert answer["id"] == "x"
    assert (first.headers["authorization"], second.headers["authorization"]) == ("Bearer old", "Bearer new")
    assert first.json == second.json == {"a": 1}


def test_the_same_token_is_not_sent_again_after_a_refusal(
    server: ScriptedServer, transport: HttpTransport
) -> None:
    server.on("GET", "/thing", Reply(status=401, body=b""))

    with pytest.raises(UnauthorizedError, match="enrol the device again"):
        transport.call("GET", "/thing", Record)

    assert len(server.requests("GET", "/thing")) == 1


def test_a_second_refusal_is_final(server: ScriptedServer) -> None:
    tokens = iter(["old", "new"])
    server.on("GET", "/thing", Reply.of_json({"detail": "revoked"}, status=401))
    transport = HttpTransport(api_base=server.api_base, auth_token_provider=lambda: next(tokens))

    with pytest.raises(UnauthorizedError, match="revoked"):
        transport.call("GET", "/thing", Record)
    transport.close()

    assert len(server.requests("GET", "/thing")) == 2


def test_who_provides_tokens_hears_of_a_refusal(server: ScriptedServer) -> None:
    class Tokens:
        token = "old"

        def get(self) -> str:
            return self.token

        def report_refused_token(self, access_token: str) -> None:
            self.token = f"after-{access_token}"

    server.on("GET", "/thing", Reply(status=401), Reply())
    transport = HttpTransport(api_base=server.api_base, auth_token_provider=Tokens().get)

    transport.call("GET", "/thing", Record)
    transport.close()

    assert server.requests("GET", "/thing")[1].headers["authorization"] == "Bearer after-old"


@pytest.mark.parametrize("token", ["", None, "two words", "with\r\nX-Injected: 1", "smörgås"])
def test_what_cannot_be_a_token_is_not_sent_and_not_shown(server: ScriptedServer, token: str) -> None:
    transport = HttpTransport(api_base=server.api_base, auth_token_provider=lambda: token)

    with pytest.raises(AuthError, match="auth_token_provider") as refused:
        transport.call("GET", "/thing", Record)

    assert not token or token not in str(refused.value)
    assert server.exchanges == []


def test_no_secret_gets_into_logs_or_messages(
    server: ScriptedServer, transport: HttpTransport, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server.on("POST", "/thing", Reply(status=503, body=b"{}"))

    with pytest.raises(ServerFailedError) as failed:
        transport.call("POST", "/thing", Record, body={"refresh_token": "the-refresh-token"})

    everything = caplog.text + str(failed.value) + repr(failed.value) + repr(transport)
    assert "the-token" not in everything
    assert "the-refresh-token" not in everything


def test_signed_links_do_not_get_into_logs_or_messages(
    server: ScriptedServer, transport: HttpTransport, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    signature = "s" * 100

    for link in (f"/files/{signature}", f"/files/x?signature={signature}"):
        with pytest.raises(NotFoundError) as absent:
            transport.download(server.api_base + link)
        assert signature not in str(absent.value)

    assert "/files/..." in caplog.text
    assert signature not in caplog.text


def test_schemas_with_secrets_do_not_print_them() -> None:
    secret = SecretStr("hush")

    for schema in (RefreshRequest(refresh_token=secret), RevokeRequest(refresh_token=secret)):
        assert "hush" not in repr(schema)
        assert "hush" not in str(schema)


def test_a_redirect_within_the_origin_is_followed(server: ScriptedServer, transport: HttpTransport) -> None:
    server.on("GET", "/old", Reply(status=307, headers={"Location": "/api/v1/new"}))
    server.on("GET", "/new", Reply.of_json({"id": "x"}))

    assert transport.call("GET", "/old", Record)["id"] == "x"


def test_a_redirect_to_another_host_loses_the_token(server: ScriptedServer, transport: HttpTransport) -> None:
    with ScriptedServer() as other:
        other.on("GET", "/x", Reply())
        server.on("GET", "/x", Reply(status=302, headers={"Location": f"{other.api_base}/x"}))

        transport.call("GET", "/x", Record)

        assert "authorization" not in other.requests("GET", "/x")[0].headers


def test_a_body_is_never_redirected(server: ScriptedServer, transport: HttpTransport) -> None:
    server.on("POST", "/x", Reply(status=307, headers={"Location": "http://127.0.0.1:9/elsewhere"}))

    with pytest.raises(InvalidResponseError, match="redirects"):
        transport.call("POST", "/x", Record, body={"weights": "..."})


def test_redirects_in_a_circle_end(server: ScriptedServer, transport: HttpTransport) -> None:
    server.on("GET", "/x", Reply(status=302, headers={"Location": "/api/v1/x"}))

    with pytest.raises(InvalidResponseError, match="EDGEML_API_BASE"):
        transport.call("GET", "/x", Record)


def test_a_body_that_is_not_what_its_encoding_says_is_invalid(
    server: ScriptedServer, transport: HttpTransport
) -> None:
    server.on("GET", "/x", Reply(body=b"no gzip", headers={"Content-Encoding": "gzip"}))

    with pytest.raises(InvalidResponseError):
        transport.call("GET", "/x", Record)


@pytest.mark.parametrize("address", ["", "127.0.0.1:8080", "ftp://host/x", "http://", "http://[::1"])
def test_what_is_no_address_is_refused_at_once(address: str) -> None:
    with pytest.raises(ConfigurationError):
        HttpTransport(api_base=address, auth_token_provider=None)


@pytest.mark.parametrize("arguments", [{"timeout": 0}, {"download_timeout": -1}, {"max_attempts": 0}])
def test_limits_must_be_positive(arguments: dict[str, int]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(arguments))):
        HttpTransport(api_base=DEAD_END, auth_token_provider=None, **arguments)  # type: ignore[arg-type]


def test_a_closed_transport_opens_again(server: ScriptedServer, transport: HttpTransport) -> None:
    server.on("GET", "/x", Reply())

    transport.call("GET", "/x", Record)
    transport.close()
    transport.close()

    assert transport.call("GET", "/x", Record) == Record()


def test_a_transport_that_nobody_closed_closes_its_connections_when_it_is_forgotten(
    server: ScriptedServer,
) -> None:
    server.on("GET", "/x", Reply())
    transport = HttpTransport(api_base=server.api_base, auth_token_provider=None)
    transport.call("GET", "/x", Record)
    client = transport._sender.pool.client()

    del transport
    gc.collect()

    assert client.is_closed


def test_a_header_that_cannot_be_sent_is_the_callers_mistake(transport: HttpTransport) -> None:
    with pytest.raises(ConfigurationError, match="cannot be sent"):
        transport.call("GET", "/x", Record, headers={"X-Note": "two\r\nlines"})


def test_threads_share_a_transport(server: ScriptedServer, transport: HttpTransport) -> None:
    server.on("POST", "/echo", lambda exchange: Reply(body=exchange.body))

    with ThreadPoolExecutor(8) as threads:
        answers = list(
            threads.map(lambda n: transport.call("POST", "/echo", Record, body={"n": n})["n"], range(64))
        )

    assert answers == list(range(64))
    assert (
        transport.num_bytes_sent
        == transport.num_bytes_received
        == sum(len(f'{{"n":{n}}}') for n in range(64))
    )


def test_no_proxy_stands_before_loopback(
    server: ScriptedServer, transport: HttpTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    server.on("GET", "/x", Reply())

    assert transport.call("GET", "/x", Record) == Record()


def test_a_script_that_raises_is_seen_by_the_test(server: ScriptedServer, transport: HttpTransport) -> None:
    server.on("GET", "/x", lambda exchange: Reply.of_json(exchange.json))

    with pytest.raises(ServerFailedError, match="JSONDecodeError"):
        transport.call("GET", "/x", Record)


def test_a_token_in_place_of_its_provider_is_refused_at_once(server: ScriptedServer) -> None:
    with pytest.raises(ConfigurationError, match="without parentheses"):
        HttpTransport(api_base=server.api_base, auth_token_provider="token")  # type: ignore[arg-type]


def test_a_complaint_of_another_form_is_shown_as_it_is(
    server: ScriptedServer, transport: HttpTransport
) -> None:
    server.on("GET", "/x", Reply.of_json({"detail": [{"loc": 5, "msg": "no"}]}, status=422))

    with pytest.raises(UnprocessableError, match="5: no"):
        transport.call("GET", "/x", Record)


def test_an_address_that_is_too_long_is_an_error_of_ours(transport: HttpTransport) -> None:
    with pytest.raises(ConfigurationError, match=r"/api/v1/x cannot be called so"):
        transport.call("GET", "/x", Record, params={"device_id": "d" * 1_000_000})
