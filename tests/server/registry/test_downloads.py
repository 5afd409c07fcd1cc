"""Downloads can be resumed, are not repeated for those who have them, and are what was published."""

from __future__ import annotations

import base64
import hashlib
import io
import sys
import threading
from collections.abc import Callable
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
import torch

from edgeml_server import EmbeddedServer, Settings

SAFETENSORS = {"format": "safetensors"}
PYTORCH = {"format": "pytorch"}


@pytest.fixture
def version(upload: Callable[..., httpx.Response], model_file: bytes, model: str) -> str:
    """The path of an uploaded version."""
    assert upload(model_file, "m.safetensors").status_code == 201
    return f"{model}/versions/1"


def test_a_device_downloads_the_file_and_can_check_it(
    enrol: Callable[..., httpx.Client], version: str, model_file: bytes
) -> None:
    answer = enrol().get(f"{version}/download", params=SAFETENSORS)

    sha256 = hashlib.sha256(model_file)
    assert answer.content == model_file
    assert answer.headers["ETag"] == f'"sha256:{sha256.hexdigest()}"'
    assert answer.headers["Repr-Digest"] == f"sha-256=:{base64.b64encode(sha256.digest()).decode()}:"
    assert answer.headers["Accept-Ranges"] == "bytes"


def test_who_has_the_file_gets_no_body(operator: httpx.Client, version: str) -> None:
    etag = operator.get(f"{version}/download", params=SAFETENSORS).headers["ETag"]

    for held in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        answer = operator.get(f"{version}/download", params=SAFETENSORS, headers={"If-None-Match": held})
        assert (answer.status_code, answer.content, answer.headers["ETag"]) == (304, b"", etag)
    other = operator.get(f"{version}/download", params=SAFETENSORS, headers={"If-None-Match": '"other"'})
    assert other.status_code == 200


def test_a_download_that_broke_off_goes_on_where_it_stopped(
    operator: httpx.Client, version: str, model_file: bytes
) -> None:
    etag = operator.get(f"{version}/download", params=SAFETENSORS).headers["ETag"]

    rest = operator.get(
        f"{version}/download", params=SAFETENSORS, headers={"Range": "bytes=10-", "If-Range": etag}
    )

    assert rest.status_code == 206
    assert rest.content == model_file[10:]
    assert rest.headers["Content-Range"] == f"bytes 10-{len(model_file) - 1}/{len(model_file)}"
    assert rest.headers["Repr-Digest"].startswith("sha-256=")


def test_a_part_of_another_file_is_not_glued_to_this_one(
    operator: httpx.Client, version: str, model_file: bytes
) -> None:
    answer = operator.get(
        f"{version}/download",
        params=SAFETENSORS,
        headers={"Range": "bytes=10-", "If-Range": '"sha256:of-another"'},
    )

    assert (answer.status_code, answer.content) == (200, model_file)


def test_a_range_beyond_the_end_is_416(operator: httpx.Client, version: str) -> None:
    answer = operator.get(f"{version}/download", params=SAFETENSORS, headers={"Range": "bytes=99999-"})

    assert (answer.status_code, answer.json()["code"]) == (416, "requested_range_not_satisfiable")
    assert answer.headers["Content-Range"].startswith("bytes */")
    assert answer.headers["X-Request-ID"] == answer.json()["request_id"]


@pytest.mark.parametrize("asked", ["bytes", "pages=1-2", "bytes=9-3", "bytes=-"])
def test_a_range_that_cannot_be_read_is_refused_as_anything_else_is(
    operator: httpx.Client, version: str, asked: str
) -> None:
    answer = operator.get(f"{version}/download", params=SAFETENSORS, headers={"Range": asked})

    assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")
    assert "the header Range" in answer.json()["detail"]


def test_older_clients_get_a_state_dict_that_torch_loads_safely(operator: httpx.Client, version: str) -> None:
    content = operator.get(f"{version}/download", params=PYTORCH).content

    state = torch.load(io.BytesIO(content), weights_only=True)  # noqa: TID251 - as such a client does
    assert state["w"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert (state["steps"].item(), state["steps"].dtype) == (3, torch.int64)


def test_the_torch_saved_form_is_made_once_also_when_many_ask_at_once(
    operator: httpx.Client, version: str
) -> None:
    etags: list[str] = []

    def ask() -> None:
        etags.append(operator.get(f"{version}/download", params=PYTORCH).headers["ETag"])

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(etags) == 6
    assert operator.get(f"{version}/download", params=PYTORCH).headers["ETag"] in etags


def test_without_torch_the_torch_saved_form_is_415_with_a_sentence(
    operator: httpx.Client, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)

    answer = operator.get(f"{version}/download", params=PYTORCH)

    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_format")
    assert operator.get(f"{version}/download", params=SAFETENSORS).status_code == 200


def test_without_a_format_a_version_answers_its_own(
    operator: httpx.Client, version: str, model_file: bytes
) -> None:
    assert operator.get(f"{version}/download").content == model_file


def test_a_format_that_is_not_there_names_those_that_are(operator: httpx.Client, version: str) -> None:
    answer = operator.get(f"{version}/download", params={"format": "onnx"})

    assert answer.status_code == 404
    assert "no onnx file; it has safetensors" in answer.json()["detail"]


def test_the_latest_version_can_be_downloaded_by_that_name(
    server: EmbeddedServer, operator: httpx.Client, org: str
) -> None:
    first = server.register_model(org_id=org, name="faces", state={"w": np.zeros(1)})
    second = server.register_model(org_id=org, name="faces", state={"w": np.ones(1)}, version="2")

    etag = operator.get(f"/models/{first['model_id']}/versions/latest/download").headers["ETag"]

    assert etag == f'"{second["checksum"]}"'


class TestLinks:
    def test_a_link_is_answered_without_a_token(
        self, operator: httpx.Client, version: str, model_file: bytes
    ) -> None:
        link = operator.get(f"{version}/download-url", params=SAFETENSORS).json()

        answer = httpx.get(link["url"])

        assert answer.content == model_file
        assert link["size_bytes"] == len(model_file)
        assert link["checksum"] == answer.headers["ETag"].strip('"')

    def test_a_link_that_was_changed_is_refused(self, operator: httpx.Client, version: str) -> None:
        url = operator.get(f"{version}/download-url", params=SAFETENSORS).json()["url"]

        answer = httpx.get(url[:-1] + ("0" if url[-1] != "0" else "1"))

        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")

    def test_a_link_to_what_was_deleted_is_not_found(self, operator: httpx.Client, version: str) -> None:
        url = operator.get(f"{version}/download-url", params=SAFETENSORS).json()["url"]
        operator.delete(version)

        assert httpx.get(url).status_code == 404

    def test_a_link_to_a_format_that_is_not_there_is_not_given(
        self, operator: httpx.Client, version: str
    ) -> None:
        assert operator.get(f"{version}/download-url", params={"format": "onnx"}).status_code == 404

    def test_behind_a_proxy_links_name_the_public_address(self) -> None:
        settings = Settings(public_url="https://fl.example.org/edge/")
        with EmbeddedServer(settings=settings) as server:
            held = server.register_model(org_id="clinic-a", name="digits", state={"w": np.zeros(1)})
            token = server.create_operator_token(org_id="clinic-a")
            link = httpx.get(
                f"{server.api_base}/models/{held['model_id']}/versions/1/download-url",
                headers={"Authorization": f"Bearer {token}"},
            ).json()
            path = urlsplit(link["url"]).path.removeprefix("/edge")
            answer = httpx.get(server.url + path)

        assert link["url"].startswith("https://fl.example.org/edge/api/v1/files/")
        assert answer.status_code == 200
