from __future__ import annotations

import logging
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import keyring
import keyring.errors
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keyring.backend import KeyringBackend
from pydantic import SecretStr
from typing_extensions import override

from edgeml_client import DeviceAuthClient
from edgeml_client.auth import (
    FallbackTokenStore,
    FileTokenStore,
    KeyringTokenStore,
    MemoryTokenStore,
    StoredToken,
    TokenStore,
)
from edgeml_client.auth.stores import _warn_once
from edgeml_client.errors import TokenStoreError

USER = "clinic-a:mri-3"


class MemoryKeyring(KeyringBackend):
    """A keyring that is unlocked."""

    priority = 1  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]

    def __init__(self) -> None:
        super().__init__()
        self.entries: dict[tuple[str, str], str] = {}

    @override
    def get_password(self, service: str, username: str) -> str | None:
        return self.entries.get((service, username))

    @override
    def set_password(self, service: str, username: str, password: str) -> None:
        self.entries[service, username] = password

    @override
    def delete_password(self, service: str, username: str) -> None:
        if self.entries.pop((service, username), None) is None:
            raise keyring.errors.PasswordDeleteError("no such entry")


class LockedKeyring(MemoryKeyring):
    """A keyring that waits for somebody to unlock it."""

    def __init__(self) -> None:
        super().__init__()
        self.unlocked = threading.Event()

    @override
    def get_password(self, service: str, username: str) -> str | None:
        self.unlocked.wait()
        return None


class BrokenKeyring(MemoryKeyring):
    """A keyring whose error repeats the secret."""

    @override
    def set_password(self, service: str, username: str, password: str) -> None:
        raise OSError(f"cannot store {password}")


@pytest.fixture
def plugged(request: pytest.FixtureRequest) -> Iterator[MemoryKeyring]:
    """The keyring of this process, of the class that the test names."""
    before = keyring.get_keyring()
    backend: MemoryKeyring = getattr(request, "param", MemoryKeyring)()
    keyring.set_keyring(backend)
    yield backend
    keyring.set_keyring(before)
    if isinstance(backend, LockedKeyring):
        backend.unlocked.set()


@pytest.fixture
def no_keyring() -> Iterator[None]:
    """A machine without a keyring."""
    before = keyring.get_keyring()
    keyring.set_keyring(keyring.backends.fail.Keyring())  # type: ignore[no-untyped-call]
    yield
    keyring.set_keyring(before)


@pytest.fixture(params=["memory", "file", "keyring", "auto"])
def any_store(request: pytest.FixtureRequest, plugged: MemoryKeyring, tmp_path: Path) -> TokenStore:
    stores: dict[str, TokenStore] = {
        "memory": MemoryTokenStore(),
        "file": FileTokenStore(tmp_path / "tokens"),
        "keyring": KeyringTokenStore(),
        "auto": FallbackTokenStore(KeyringTokenStore()),
    }
    return stores[request.param]


def test_a_store_keeps_one_text_for_each_user(any_store: TokenStore) -> None:
    assert any_store.find(USER) is None

    any_store.save(USER, "first")
    any_store.save(USER, "second")
    any_store.save("clinic-b:mri-3", "other")

    assert any_store.find(USER) == "second"
    any_store.remove(USER)
    any_store.remove(USER)
    assert any_store.find(USER) is None
    assert any_store.find("clinic-b:mri-3") == "other"


def test_the_keyring_entry_is_where_the_contract_says(plugged: MemoryKeyring) -> None:
    KeyringTokenStore().save(USER, "text")

    assert plugged.entries == {("edgeml", USER): "text"}


@pytest.mark.parametrize("plugged", [LockedKeyring], indirect=True)
def test_a_locked_keyring_does_not_block_for_ever(plugged: MemoryKeyring) -> None:
    with pytest.raises(TokenStoreError, match=r"did not answer within 0\.05 s .*EDGEML_TOKEN_STORAGE"):
        KeyringTokenStore(timeout_s=0.05).find(USER)


@pytest.mark.parametrize("plugged", [BrokenKeyring], indirect=True)
def test_a_failing_keyring_is_named_without_the_secret(plugged: MemoryKeyring) -> None:
    with pytest.raises(TokenStoreError, match=r"keyring failed \(OSError\)") as failed:
        KeyringTokenStore().save(USER, "hush")

    assert "hush" not in str(failed.value)
    assert failed.value.__cause__ is None


def test_a_machine_without_a_keyring_says_so(no_keyring: None) -> None:
    with pytest.raises(TokenStoreError, match=r"NoKeyringError.*EDGEML_TOKEN_STORAGE"):
        KeyringTokenStore().find(USER)


def test_auto_falls_back_to_memory_with_one_warning(
    no_keyring: None, caplog: pytest.LogCaptureFixture
) -> None:
    _warn_once.cache_clear()

    stores = [FallbackTokenStore(KeyringTokenStore()) for _ in range(3)]
    for store in stores:
        assert store.find(USER) is None
        store.save(USER, "text")
        assert store.find(USER) == "text"
        store.remove(USER)

    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "enrol again after a restart" in record.getMessage()
    assert stores[0].place == "the memory of this process"


@pytest.mark.parametrize("plugged", [BrokenKeyring], indirect=True)
def test_auto_falls_back_when_the_keyring_cannot_be_written(plugged: MemoryKeyring) -> None:
    store = FallbackTokenStore(KeyringTokenStore())
    assert store.is_shared

    store.save(USER, "text")

    assert store.find(USER) == "text"
    assert not store.is_shared


def test_auto_falls_back_when_the_keyring_cannot_be_cleared(no_keyring: None) -> None:
    store = FallbackTokenStore(KeyringTokenStore())

    store.remove(USER)

    assert not store.is_shared


def test_a_keyring_that_holds_the_token_and_fails_later_is_no_reason_to_fall_back(
    plugged: MemoryKeyring,
) -> None:
    """The device is still enrolled: an error says so, where an empty memory would ask for a new enrolment."""
    store = FallbackTokenStore(KeyringTokenStore(timeout_s=0.05))
    store.save(USER, "text")
    locked = LockedKeyring()
    keyring.set_keyring(locked)

    with pytest.raises(TokenStoreError, match="is it locked"):
        store.find(USER)

    locked.unlocked.set()
    keyring.set_keyring(plugged)
    assert store.find(USER) == "text"


def test_a_token_file_belongs_to_its_owner_alone(tmp_path: Path) -> None:
    store = FileTokenStore(tmp_path / "tokens")

    store.save(USER, "text")

    (file,) = (tmp_path / "tokens").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


def test_a_token_file_that_others_can_read_is_not_used(tmp_path: Path) -> None:
    store = FileTokenStore(tmp_path)
    store.save(USER, "text")
    (file,) = tmp_path.iterdir()
    file.chmod(0o644)

    with pytest.raises(TokenStoreError, match="chmod 600"):
        store.find(USER)


def test_token_files_lie_in_the_users_state_folder_by_default(tmp_path: Path) -> None:
    FileTokenStore().save(USER, "text")

    assert [file.name for file in (tmp_path / "state" / "edgeml" / "tokens").iterdir()] == [
        "clinic-a%3Amri-3.json"
    ]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "occupied").write_text("a file, not a folder")
    store = FileTokenStore(tmp_path / "occupied")

    for action in (lambda: store.save(USER, "text"), lambda: store.find(USER), lambda: store.remove(USER)):
        with pytest.raises(TokenStoreError, match="occupied"):
            action()


def test_a_failed_write_leaves_the_old_token(tmp_path: Path) -> None:
    store = FileTokenStore(tmp_path)
    store.save(USER, "old")

    with pytest.raises(UnicodeEncodeError):
        store.save(USER, "\ud800")

    assert store.find(USER) == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    store = FileTokenStore(tmp_path)
    store.save(USER, "text")
    (file,) = tmp_path.iterdir()
    file.write_bytes(b"\xff\xfe\xff")

    with pytest.raises(TokenStoreError, match="cannot read"):
        store.find(USER)


@given(
    users=st.lists(st.text(st.characters(codec="utf-8"), min_size=1, max_size=300), unique=True, max_size=4)
)
def test_every_user_has_a_file_of_its_own(users: list[str]) -> None:
    paths = [FileTokenStore(Path("/tokens"))._path(user) for user in users]

    assert len(set(paths)) == len(users)
    assert all(path.parent == Path("/tokens") and len(os.fsencode(path.name)) < 255 for path in paths)


def test_what_is_stored_fits_into_the_windows_keyring() -> None:
    """1,280 characters: names of 255 each, an address of 200, and a token of 100."""
    stored = StoredToken(
        refresh_token=SecretStr("r" * 100),
        org_id="ö" * 255,
        device_identifier="d" * 255,
        base_url="https://" + "h" * 192,
    )

    assert len(stored.to_text()) <= 1_280
    assert StoredToken.from_text(stored.to_text(), place="a test") == stored
    assert "rrr" not in repr(stored)


def test_the_environment_chooses_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    def place() -> str:
        return repr(DeviceAuthClient(base_url="http://127.0.0.1:9", org_id="o", device_identifier="d"))

    monkeypatch.setenv("EDGEML_TOKEN_STORAGE", "memory")
    assert "memory of this process" in place()
    monkeypatch.setenv("EDGEML_TOKEN_STORAGE", "FILE")
    assert "edgeml/tokens" in place()
    monkeypatch.setenv("EDGEML_TOKEN_STORAGE", "keyring")
    assert "system keyring" in place()
    monkeypatch.delenv("EDGEML_TOKEN_STORAGE")
    assert "system keyring" in place()
