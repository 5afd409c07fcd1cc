"""The settings of a control plane, from arguments, or from ``EDGEML_SERVER_*`` in the environment."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from platformdirs import user_data_path
from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

__all__ = ["Settings"]

_MIB: Final = 1024**2
_DAY_S: Final = 24 * 60 * 60


def _default_folder() -> Path:
    return user_data_path("edgeml-server", appauthor=False)


def _default_database_url() -> str:
    return f"sqlite:///{_default_folder() / 'control-plane.db'}"


def _default_blob_url() -> str:
    return (_default_folder() / "blobs").as_uri()


class Settings(BaseSettings):
    """What an operator may choose; each field has a default that works on a laptop.

    Attributes:
        database_url: ``sqlite:///path`` or ``postgresql://user@host/database``.
        blob_url: Where files are kept: ``file:///absolute/path``.
        host: The address ``edgeml-server serve`` listens on.
        port: Its port.
        workers: Processes that serve at once; more than one needs PostgreSQL.
        public_url: The address devices use, for links; by default the one each request came to.
        secret_key: Keys derived tokens and signed links; by default one is drawn once and kept in the
            database.
        access_ttl_s: Life of an access token in seconds, at most an hour.
        refresh_ttl_s: Life of a refresh token in seconds.
        refresh_grace_s: For how long a replaced refresh token, or a used bootstrap token, is answered again
            to a device that may have lost the answer.
        bootstrap_ttl_s: Life of a bootstrap token in seconds, unless its creator says otherwise.
        download_url_ttl_s: Life of a signed download link in seconds.
        last_seen_resolution_s: A device's ``last_seen_at`` is rewritten at most this often.
        max_body_bytes: The largest file that may be sent.
        max_json_bytes: The largest JSON body, except for ``weights_data``.
        max_torch_bytes: The largest torch-saved file that is converted; it is held in memory.
        max_weights_json_bytes: The largest JSON body with base64 ``weights_data``; it is held in memory.
        body_silence_s: For how long a sender may send nothing in the middle of a body, in seconds.
    """

    model_config = SettingsConfigDict(env_prefix="EDGEML_SERVER_", frozen=True, extra="ignore")

    database_url: str = Field(default_factory=_default_database_url, repr=False)
    blob_url: str = Field(default_factory=_default_blob_url)
    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65535)
    workers: int = Field(default=1, ge=1)
    public_url: str | None = None
    secret_key: SecretStr | None = None
    access_ttl_s: int = Field(default=900, ge=1, le=3600)
    refresh_ttl_s: int = Field(default=30 * _DAY_S, ge=60)
    refresh_grace_s: int = Field(default=30, ge=0, le=300)
    bootstrap_ttl_s: int = Field(default=3600, ge=1, le=90 * _DAY_S)
    download_url_ttl_s: int = Field(default=300, ge=1, le=_DAY_S)
    last_seen_resolution_s: int = Field(default=60, ge=0)
    max_body_bytes: int = Field(default=2048 * _MIB, ge=1024)
    max_json_bytes: int = Field(default=_MIB, ge=1024)
    max_torch_bytes: int = Field(default=1024 * _MIB, ge=1024)
    max_weights_json_bytes: int = Field(default=512 * _MIB, ge=1024)
    body_silence_s: float = Field(default=60.0, gt=0, allow_inf_nan=False)
