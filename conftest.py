"""Every python block of the README and of docs/, and every example in a docstring, runs as a test."""

from __future__ import annotations

import doctest
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sybil import Sybil
from sybil.document import PythonDocStringDocument
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser
from sybil.parsers.rest import DocTestParser

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROOT = Path(__file__).parent

_pages = Sybil(
    parsers=[PythonCodeBlockParser(), SkipParser()],
    patterns=["README.md", "docs/**/*.md", "docs/*.md"],
    path=str(_ROOT),
    fixtures=["working_folder"],
)
_docstrings = Sybil(
    parsers=[DocTestParser(optionflags=doctest.ELLIPSIS)],
    patterns=["edgeml_*/**/*.py", "edgeml_*/*.py"],
    path=str(_ROOT),
    document_types={".py": PythonDocStringDocument},
    fixtures=["working_folder"],
)
pytest_collect_file = (_pages + _docstrings).pytest()


@pytest.fixture(scope="module")
def working_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Run a page's blocks in an empty folder, with tokens in memory, so that they leave nothing behind."""
    folder = tmp_path_factory.mktemp("page")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("XDG_STATE_HOME", str(folder / "state"))
        patch.setenv("EDGEML_TOKEN_STORAGE", "memory")
        yield folder
