from __future__ import annotations

import os
import subprocess
import sys
import warnings

import pytest

from edgeml_client.config import (
    DEFAULT_API_BASE,
    ClientConfig,
    InsecureAddressWarning,
    TokenStorage,
    check_address,
    resolve_config,
    resolve_token_storage,
)
from edgeml_client.errors import ConfigurationError

ENVIRONMENT = {
    "EDGEML_API_BASE": "https://env.example/api/v1/",
    "EDGEML_ORG_ID": "env-org",
    "EDGEML_DEVICE_ID": "env-device",
    "EDGEML_PLATFORM": "env-platform",
}


def test_without_anything_the_defaults_hold() -> None:
    assert resolve_config(environ={}) == ClientConfig(
        api_base=DEFAULT_API_BASE,
        org_id="default",
        device_identifier=None,
        platform="python",
    )


def test_the_environment_comes_before_the_defaults() -> None:
    assert resolve_config(environ=ENVIRONMENT) == ClientConfig(
        api_base="https://env.example/api/v1",
        org_id="env-org",
        device_identifier="env-device",
        platform="env-platform",
    )


def test_arguments_come_before_the_environment() -> None:
    explicit = ClientConfig(
        api_base="http://127.0.0.1:1/api/v1",
        org_id="o",
        device_identifier="d",
        platform="p",
    )

    resolved = resolve_config(
        api_base=explicit.api_base,
        org_id="o",
        device_identifier="d",
        platform="p",
        environ=ENVIRONMENT,
    )

    assert resolved == explicit


@pytest.mark.parametrize(
    ("argument", "environment", "expected"),
    [
        (None, {}, TokenStorage.AUTO),
        (None, {"EDGEML_TOKEN_STORAGE": "File"}, TokenStorage.FILE),
        (None, {"EDGEML_TOKEN_STORAGE": "  "}, TokenStorage.AUTO),
        ("memory", {"EDGEML_TOKEN_STORAGE": "file"}, TokenStorage.MEMORY),
    ],
)
def test_where_tokens_are_kept_is_chosen_in_the_same_order(
    argument: str | None, environment: dict[str, str], expected: TokenStorage
) -> None:
    assert resolve_token_storage(argument, environ=environment) is expected


def test_an_unknown_place_for_tokens_names_its_variable() -> None:
    with pytest.raises(ConfigurationError, match="EDGEML_TOKEN_STORAGE"):
        resolve_token_storage(None, environ={"EDGEML_TOKEN_STORAGE": "cloud"})


def test_the_environment_is_that_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEML_ORG_ID", "from-the-process")

    assert resolve_config().org_id == "from-the-process"


def test_a_variable_set_to_nothing_counts_as_not_set() -> None:
    assert resolve_config(environ=dict.fromkeys(ENVIRONMENT, "  ")) == resolve_config(environ={})


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("EDGEML_API_BASE", "127.0.0.1:8080"),
        ("EDGEML_API_BASE", "ftp://host/api/v1"),
        ("EDGEML_API_BASE", "http://"),
        ("EDGEML_API_BASE", "http://[::1"),
        ("EDGEML_API_BASE", "http://host:99999"),
        ("EDGEML_API_BASE", "https://host/api/v1?token=hush"),
        ("EDGEML_API_BASE", "https://user:hush@host/api/v1"),
        ("EDGEML_API_BASE", "https://host/a b"),
        ("EDGEML_ORG_ID", "x" * 256),
        ("EDGEML_DEVICE_ID", "two\nlines"),
        ("EDGEML_PLATFORM", "\x00"),
        ("EDGEML_LOG_LEVEL", "LOUD"),
    ],
)
def test_a_bad_value_names_its_variable(variable: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=variable) as wrong:
        resolve_config(environ={variable: value})

    assert "hush" not in str(wrong.value)


def test_a_bad_argument_is_named_as_the_caller_wrote_it() -> None:
    with pytest.raises(ConfigurationError, match=r"^org_id must be"):
        resolve_config(org_id="", environ=ENVIRONMENT)


@pytest.mark.parametrize(
    "address",
    [
        "http://localhost:8080/api/v1",
        "http://edge.localhost",
        "http://127.0.0.1:1",
        "http://127.8.9.1",
        "http://[::1]:80",
        "https://api.example.com/api/v1",
    ],
)
def test_what_stays_on_this_machine_or_is_encrypted_needs_no_warning(address: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")

        assert check_address(address, name="api_base") == address


@pytest.mark.parametrize("address", ["http://192.168.0.7:8080", "http://control-plane/api/v1"])
def test_tokens_in_clear_text_are_warned_of(address: str) -> None:
    with pytest.warns(InsecureAddressWarning, match="use https"):
        check_address(address, name="api_base")


PROGRAM = """
import logging
from edgeml_client.config import resolve_config
resolve_config()
resolve_config()
logging.getLogger("edgeml_client.auth").debug("hello")
logging.getLogger("another").debug("not mine")
"""


def test_the_log_level_shows_even_where_no_logging_is_set_up() -> None:
    environment = os.environ | {"EDGEML_LOG_LEVEL": "debug"}

    program = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, check=True, capture_output=True, text=True
    )

    (line,) = program.stderr.splitlines()
    assert line.endswith("DEBUG edgeml_client.auth: hello")
