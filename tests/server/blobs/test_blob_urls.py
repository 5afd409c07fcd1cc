"""A blob URL names a store, or the message says what to write instead."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeml_server.blobs import open_blob_store
from edgeml_server.errors import SetupError


def test_a_file_url_names_a_folder_also_with_blanks_in_it(tmp_path: Path) -> None:
    folder = tmp_path / "my files"

    stored = open_blob_store(folder.as_uri()).put([b"x"])

    assert open_blob_store(folder.as_uri()).exists(stored.digest)
    assert folder.is_dir()


@pytest.mark.parametrize(("scheme", "extra"), [("s3", "s3"), ("gs", "gcs"), ("az", "azure")])
def test_a_store_that_is_yet_to_come_names_its_extra(scheme: str, extra: str) -> None:
    with pytest.raises(SetupError, match=rf"edgeml-lightning\[{extra}\]"):
        open_blob_store(f"{scheme}://bucket/folder")


@pytest.mark.parametrize("url", ["", "blobs", "file:relative", "file://host/share", "ftp://host/x"])
def test_anything_else_is_told_the_form_that_works(url: str) -> None:
    with pytest.raises(SetupError, match="file:///absolute/path"):
        open_blob_store(url)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")

    with pytest.raises(SetupError, match="taken"):
        open_blob_store((tmp_path / "taken").as_uri())
