from __future__ import annotations

import pytest
from pydantic import ValidationError

from edgeml_client.schemas import Model, WireBody

ANSWER = Model.model_validate({"id": "m-1", "name": "digits", "colour": "blue"})


def test_known_and_unknown_fields_read_as_in_a_dictionary() -> None:
    assert (ANSWER["id"], ANSWER["colour"]) == ("m-1", "blue")
    assert (ANSWER.get("name"), ANSWER.get("size", 0)) == ("digits", 0)
    assert "colour" in ANSWER
    assert "size" not in ANSWER
    assert {"id", "name", "colour"} <= set(ANSWER.keys())
    assert dict(ANSWER)["colour"] == "blue"


def test_a_field_that_is_not_there_is_a_key_error() -> None:
    with pytest.raises(KeyError, match="size"):
        ANSWER["size"]


def test_answers_do_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        ANSWER.name = "letters"  # type: ignore[misc]


def test_bodies_hold_no_unknown_fields() -> None:
    class Body(WireBody):
        name: str

    with pytest.raises(ValidationError, match="colour"):
        Body.model_validate({"name": "n", "colour": "blue"})
