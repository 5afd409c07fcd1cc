from __future__ import annotations

import asyncio
import logging
from datetime import timedelta

import pytest
from pydantic import SecretStr

from edgeml_client import DeviceAuthClient
from edgeml_client.auth import MemoryTokenStore
from edgeml_client.errors import (
    AuthError,
    ConfigurationError,
    ConflictError,
    ConnectionFailedError,
    InvalidResponseError,
    NotEnrolledError,
    ServerFailedError,
    TokenStoreError,
)
from edgeml_client.testing import FakeClock, Reply, ScriptedServer
from tests.client.auth.rotation import MakeAuth, Rotation

USER = "clinic-a:mri-3"


def test_a_device_enrols_with_a_bootstrap_token(
    server: ScriptedServer, make_auth: MakeAuth, rotation: Rotation, clock: FakeClock
) -> None:
    state = make_auth().bootstrap_sync(
        bootstrap_bearer_token=SecretStr("good-bootstrap-token"), access_ttl_seconds=600, device_id="d-1"
    )

    (exchange,) = server.requests("POST", "/device-auth/bootstrap")
    assert exchange.json == {
        "org_id": "clinic-a",
        "device_identifier": "mri-3",
        "scopes": ["devices:write"],
        "access_ttl_seconds": 600,
        "device_id": "d-1",
    }
    assert state.access_token.get_secret_value() == "access-1"
    assert state.expires_at == clock.now() + timedelta(seconds=900)
    assert state.scopes == ("devices:write",)


def test_every_coroutine_has_a_synchronous_twin(server: ScriptedServer, make_auth: MakeAuth) -> None:
    """The twins work inside a running event loop as well."""
    Rotation(server)

    async def inside() -> list[str]:
        auth = make_auth()
        await auth.bootstrap(bootstrap_bearer_token="good-bootstrap-token")
        tokens = [await auth.get_access_token(), (await auth.refresh()).access_token.get_secret_value()]
        tokens += [auth.refresh_sync().access_token.get_secret_value(), auth.get_access_token_sync()]
        await auth.revoke()
        return tokens

    assert asyncio.run(inside()) == ["access-1", "access-2", "access-3", "access-3"]


def test_who_never_enrolled_is_told_how(make_auth: MakeAuth) -> None:
    with pytest.raises(NotEnrolledError, match=r"clinic-a:mri-3 in the memory.*bootstrap"):
        make_auth().get_access_token_sync()


def test_who_enrolled_in_another_process_is_told_where_both_find_the_token(make_auth: MakeAuth) -> None:
    """A bootstrap token is spent once: in memory, what it brought is gone with the process that enrolled."""
    with pytest.raises(
        NotEnrolledError, match=r"memory ends with its process.*EDGEML_TOKEN_STORAGE to 'file'"
    ):
        make_auth().get_access_token_sync()


def test_a_refused_bootstrap_token_is_not_kept_and_not_shown(
    make_auth: MakeAuth, rotation: Rotation, store: MemoryTokenStore
) -> None:
    with pytest.raises(AuthError, match=r"used already.*ask the operator for a new one") as refused:
        make_auth().bootstrap_sync(bootstrap_bearer_token="used-bootstrap-token")

    assert "used-bootstrap-token" not in str(refused.value)
    assert store.find(USER) is None


def test_a_malformed_bootstrap_token_is_not_sent(server: ScriptedServer, make_auth: MakeAuth) -> None:
    with pytest.raises(AuthError, match="exactly as it was issued") as refused:
        make_auth().bootstrap_sync(bootstrap_bearer_token="pasted with spaces\n")

    assert "pasted" not in str(refused.value)
    assert server.exchanges == []


def test_what_the_control_plane_says_of_an_enrolment_is_shown(
    server: ScriptedServer, make_auth: MakeAuth
) -> None:
    refusal = Reply.of_json({"detail": "ask for a bound token"}, status=409)
    server.on("POST", "/device-auth/bootstrap", refusal)

    with pytest.raises(ConflictError, match="ask for a bound token"):
        make_auth().bootstrap_sync(bootstrap_bearer_token="b")


def test_tokens_of_another_device_are_not_accepted(
    server: ScriptedServer, make_auth: MakeAuth, rotation: Rotation, store: MemoryTokenStore
) -> None:
    server.on("POST", "/device-auth/bootstrap", lambda _: rotation.issue("clinic-b", "mri-3"))

    with pytest.raises(InvalidResponseError, match="clinic-b:mri-3"):
        make_auth().bootstrap_sync(bootstrap_bearer_token="b")

    assert store.find(USER) is None


def test_a_token_is_never_sent_to_another_control_plane(make_auth: MakeAuth, auth: DeviceAuthClient) -> None:
    with ScriptedServer() as elsewhere:
        with pytest.raises(NotEnrolledError, match=r"enrolled at http.*not sent to"):
            make_auth(base_url=elsewhere.url).get_access_token_sync()

        assert elsewhere.exchanges == []
    assert auth.refresh_sync().access_token.get_secret_value() == "access-2"


def test_an_entry_of_an_older_client_is_understood(
    make_auth: MakeAuth, rotation: Rotation, store: MemoryTokenStore
) -> None:
    rotation.current = 5
    store.save(
        USER,
        '{"access_token": "a", "refresh_token": "refresh-5", "token_type": "Bearer", "scopes": [],'
        '"expires_at": "2029-01-01T00:00:00+00:00", "org_id": "clinic-a", "device_identifier": "mri-3"}',
    )

    assert make_auth().get_access_token_sync() == "access-6"


def test_an_entry_that_is_no_token_is_not_shown(make_auth: MakeAuth, store: MemoryTokenStore) -> None:
    store.save(USER, '{"refresh_token": 5, "note": "hush"}')

    with pytest.raises(TokenStoreError, match="clear_token_state") as broken:
        make_auth().get_access_token_sync()

    assert "hush" not in str(broken.value)
    make_auth().clear_token_state()
    assert store.find(USER) is None


def test_revoking_ends_the_enrolment_on_both_sides(
    server: ScriptedServer, auth: DeviceAuthClient, store: MemoryTokenStore
) -> None:
    auth.revoke_sync("decommissioned")
    auth.revoke_sync()  # there is nothing left to revoke

    (exchange,) = server.requests("POST", "/device-auth/revoke")
    assert exchange.json == {"refresh_token": "refresh-1", "reason": "decommissioned"}
    assert store.find(USER) is None
    with pytest.raises(NotEnrolledError):
        auth.get_access_token_sync()


def test_revoking_what_is_revoked_already_is_no_error(
    auth: DeviceAuthClient, rotation: Rotation, store: MemoryTokenStore
) -> None:
    rotation.current = 77

    auth.revoke_sync()

    assert store.find(USER) is None


def test_without_network_a_token_to_be_revoked_is_kept(
    server: ScriptedServer, auth: DeviceAuthClient, store: MemoryTokenStore
) -> None:
    server.on("POST", "/device-auth/revoke", Reply(drop=True))

    with pytest.raises(ConnectionFailedError):
        auth.revoke_sync()

    assert store.find(USER) is not None


def test_clearing_forgets_the_tokens_here_only(
    server: ScriptedServer, auth: DeviceAuthClient, store: MemoryTokenStore
) -> None:
    auth.clear_token_state()

    assert store.find(USER) is None
    assert server.requests("POST", "/device-auth/revoke") == []


def test_no_secret_is_ever_shown(
    server: ScriptedServer, auth: DeviceAuthClient, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    state = auth.refresh_sync()
    server.on("POST", "/device-auth/refresh", Reply(status=503))
    clock.advance(1_000)
    with pytest.raises(ServerFailedError) as failed:
        auth.get_access_token_sync()

    shown = " ".join((repr(auth), str(state), repr(state), caplog.text, str(failed.value)))

    assert "clinic-a" in repr(auth)
    for number in range(4):
        assert f"access-{number}" not in shown
        assert f"refresh-{number}" not in shown


@pytest.mark.parametrize(
    "arguments",
    [
        {"base_url": "127.0.0.1"},
        {"base_url": "http://user:hush@127.0.0.1"},
        {"org_id": ""},
        {"device_identifier": "two\nlines"},
        {"token_storage": "cloud"},
        {"timeout_seconds": 0},
    ],
)
def test_arguments_are_checked_at_once(make_auth: MakeAuth, arguments: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError) as wrong:
        make_auth(**arguments)

    assert "hush" not in str(wrong.value)


def test_the_address_may_name_the_api(
    server: ScriptedServer, make_auth: MakeAuth, rotation: Rotation
) -> None:
    auth = make_auth(base_url=server.api_base + "/")

    auth.bootstrap_sync(bootstrap_bearer_token="good-bootstrap-token")

    assert auth.base_url == server.url


def test_the_user_name_of_the_entry_can_be_chosen(
    make_auth: MakeAuth, rotation: Rotation, store: MemoryTokenStore
) -> None:
    make_auth(keyring_username="me").bootstrap_sync(bootstrap_bearer_token="good-bootstrap-token")

    assert store.find("me") is not None
