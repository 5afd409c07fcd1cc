"""A device's personal states survive restarts, and nothing damaged or foreign is ever loaded or lost."""

from __future__ import annotations

import os
import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgeml_client.errors import ConfigurationError
from edgeml_lightning.errors import PersonalStateError, PersonalStoreError, PersonalStoreFullError
from edgeml_lightning.personalization import (
    Mark,
    OptimizerState,
    PersonalKey,
    PersonalState,
    PersonalStore,
    RoundMarks,
)
from edgeml_lightning.randomness import capture_randomness, restore_randomness_
from tests.full_disk import longest_file

KEY = PersonalKey(org_id="clinic-a", device="mri-3", model_id="digits", strategy="ditto")
EXPECTED = {"head.weight": torch.zeros(2, 2), "head.count": torch.zeros((), dtype=torch.int64)}


def state(round_id: str = "r-1", value: float = 1.5) -> PersonalState:
    return PersonalState(
        model_id="digits",
        strategy="ditto",
        round_id=round_id,
        base_version="3",
        base_digest="sha256:ab",
        arrays={
            "head.weight": torch.full((2, 2), value, dtype=torch.bfloat16),
            "head.count": torch.tensor(7),
        },
        optimizer=OptimizerState({"head.weight//exp_avg": torch.ones(2, 2)}, {"head.weight//step": 4.0}),
    )


def found(store: PersonalStore, *, before_round: str | None = None) -> PersonalState:
    answer = store.find(KEY, expected=EXPECTED, before_round=before_round)
    assert answer is not None
    return answer


def test_what_is_kept_comes_back_as_it_was(tmp_path: Path) -> None:
    """True dtypes, the optimizer's memory, and the round and base it belongs to, in a store opened anew."""
    PersonalStore(tmp_path).save(KEY, state())

    back = found(PersonalStore(tmp_path))

    assert torch.equal(back.arrays["head.weight"], torch.full((2, 2), 1.5, dtype=torch.bfloat16))
    assert back.arrays["head.count"].item() == 7
    assert back.optimizer.tensors["head.weight//exp_avg"].tolist() == [[1, 1], [1, 1]]
    assert back.optimizer.numbers == {"head.weight//step": 4.0}
    assert (back.round_id, back.base_version, back.base_digest) == ("r-1", "3", "sha256:ab")


def test_nothing_is_found_before_something_is_kept(tmp_path: Path) -> None:
    assert PersonalStore(tmp_path / "new").find(KEY, expected=EXPECTED) is None


def test_a_round_that_starts_again_starts_from_the_state_before_it(tmp_path: Path) -> None:
    """However often the interrupted round was kept, the state before it stays."""
    store = PersonalStore(tmp_path)
    store.save(KEY, state("r-1", 1.0))
    store.save(KEY, state("r-2", 2.0))
    store.save(KEY, state("r-2", 2.5))

    assert found(store).arrays["head.weight"][0, 0].item() == 2.5
    assert found(store, before_round="r-2").arrays["head.weight"][0, 0].item() == 1.0


def test_states_of_refused_rounds_are_taken_back_up_to_one_that_was_not(tmp_path: Path) -> None:
    store = PersonalStore(tmp_path, num_kept=4)
    store.take_back(KEY, was_refused=lambda _: True)
    for round_id in ("r-1", "r-2", "r-3", "r-4"):
        store.save(KEY, state(round_id))

    store.take_back(KEY, was_refused=lambda round_id: round_id != "r-2")

    assert found(store).round_id == "r-2"
    assert found(store, before_round="r-2").round_id == "r-1"


def test_only_the_last_few_are_kept(tmp_path: Path) -> None:
    store = PersonalStore(tmp_path, num_kept=2)
    paths = [store.save(KEY, state(f"r-{number}")) for number in range(4)]

    assert [path.exists() for path in paths] == [False, False, True, True]


def test_two_are_kept_at_least(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="at least 2"):
        PersonalStore(tmp_path, num_kept=1)


@pytest.mark.parametrize("where", ["head", "middle", "tail", "empty", "length"])
def test_a_damaged_entry_is_set_aside_and_the_one_before_it_serves(tmp_path: Path, where: str) -> None:
    store = PersonalStore(tmp_path)
    store.save(KEY, state("r-1", 1.0))
    path = store.save(KEY, state("r-2", 2.0))
    data = bytearray(path.read_bytes())
    if where == "head":
        data[20] ^= 0xFF
    elif where == "middle":
        data[-3] ^= 0x01  # within an array: the file is well formed, its content is not what was written
    elif where == "tail":
        del data[-8:]
    elif where == "empty":
        data.clear()
    else:
        data[:8] = (2**62).to_bytes(8, "little")
    path.write_bytes(data)

    with pytest.raises(PersonalStateError, match=r"00000002.safetensors cannot be used.*start again"):
        store.find(KEY, expected=EXPECTED)

    assert (path.parent / "refused" / path.name).read_bytes() == data
    assert found(store).round_id == "r-1"


def test_an_entry_of_another_device_is_set_aside(tmp_path: Path) -> None:
    store = PersonalStore(tmp_path)
    mine = store.save(KEY, state())
    foreign = store.save(KEY.model_copy(update={"device": "mri-4"}), state())
    mine.write_bytes(foreign.read_bytes())

    with pytest.raises(PersonalStateError, match="belongs to"):
        store.find(KEY, expected=EXPECTED)

    assert store.find(KEY, expected=EXPECTED) is None
    assert (mine.parent / "refused" / mine.name).exists()


def test_an_entry_of_another_architecture_is_set_aside_and_the_difference_told(tmp_path: Path) -> None:
    store = PersonalStore(tmp_path)
    store.save(KEY, state())

    with pytest.raises(PersonalStateError, match="does not fit the model") as caught:
        store.find(KEY, expected={"head.weight": torch.zeros(3, 2), "head.bias": torch.zeros(3)})

    for difference in (
        "head.bias is missing",
        "head.count is not in the model",
        "head.weight has shape [2, 2] instead of [3, 2]",
    ):
        assert difference in str(caught.value)


def test_a_second_damaged_entry_does_not_overwrite_the_first(tmp_path: Path) -> None:
    store = PersonalStore(tmp_path)
    for _ in range(2):
        store.save(KEY, state()).write_bytes(b"damaged")
        with pytest.raises(PersonalStateError):
            store.find(KEY, expected=EXPECTED)

    assert len(list(tmp_path.rglob("refused/*"))) == 2


def test_keeping_goes_on_after_a_damaged_entry(tmp_path: Path) -> None:
    store = PersonalStore(tmp_path)
    store.save(KEY, state("r-1")).write_bytes(b"damaged")

    store.save(KEY, state("r-2"))

    assert found(store).round_id == "r-2"


def test_telling_the_round_of_an_entry_reads_its_header_alone(tmp_path: Path) -> None:
    """The newest entry's arrays are damaged; its round is known all the same, so a save replaces it."""
    store = PersonalStore(tmp_path)
    path = store.save(KEY, state("r-1"))
    data = bytearray(path.read_bytes())
    data[-1] ^= 0x01
    path.write_bytes(data)

    assert store.save(KEY, state("r-1")) == path


def test_what_no_model_file_holds_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    unusual = replace(state(), arrays={"head.weight": torch.zeros(2, dtype=torch.complex64)})

    with pytest.raises(PersonalStateError, match="complex64"):
        PersonalStore(tmp_path).save(KEY, unusual)

    assert not list(tmp_path.rglob("*.*"))


# The limit on disk.


def key_of(model_id: str) -> PersonalKey:
    return KEY.model_copy(update={"model_id": model_id})


def test_the_oldest_entries_of_other_models_make_room(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Three entries fit; the fourth removes the oldest of another model, and a warning names it."""
    first = PersonalStore(tmp_path).save(key_of("a"), state())
    second = PersonalStore(tmp_path).save(key_of("b"), state())
    os.utime(first, ns=(1, 1))
    os.utime(second, ns=(2, 2))
    store = PersonalStore(tmp_path, max_bytes=3 * first.stat().st_size + 100)

    mine = store.save(KEY, state("r-1"))
    newest = store.save(KEY, state("r-2"))

    assert [path.exists() for path in (first, second, mine, newest)] == [False, True, True, True]
    assert str(first) in caplog.text


def test_the_current_model_is_never_removed_for_itself(tmp_path: Path) -> None:
    """One entry fits and two do not: an error with the figures, and the one that is there stays."""
    num_bytes = PersonalStore(tmp_path).save(KEY, state("r-1")).stat().st_size
    store = PersonalStore(tmp_path, max_bytes=num_bytes + num_bytes // 2)

    with pytest.raises(PersonalStoreFullError, match=rf"needs {2 * num_bytes} bytes.*left alone") as caught:
        store.save(KEY, state("r-2"))

    assert (caught.value.needed_bytes, caught.value.max_bytes) == (2 * num_bytes, store.max_bytes)
    assert found(store).round_id == "r-1"


def test_missing_room_can_be_told_before_training(tmp_path: Path) -> None:
    store = PersonalStore(tmp_path, max_bytes=1000)

    store.check_room(KEY, num_bytes=1000)
    with pytest.raises(PersonalStoreFullError):
        store.check_room(KEY, num_bytes=1001)


def test_the_next_state_is_taken_to_be_as_large_as_the_last(tmp_path: Path) -> None:
    """Its arrays alone would fit: what the optimizer remembers is known from the state before."""
    num_bytes = PersonalStore(tmp_path).save(KEY, state("r-1")).stat().st_size
    store = PersonalStore(tmp_path, max_bytes=2 * num_bytes - 1)

    with pytest.raises(PersonalStoreFullError):
        store.check_room(KEY, num_bytes=16)


def test_other_devices_and_refused_entries_are_never_removed(tmp_path: Path) -> None:
    """Another device's entries do not count; what was set aside counts and stays."""
    unlimited = PersonalStore(tmp_path)
    theirs = unlimited.save(KEY.model_copy(update={"device": "mri-4"}), state())
    unlimited.save(key_of("a"), state()).write_bytes(b"damaged")
    with pytest.raises(PersonalStateError):
        unlimited.find(key_of("a"), expected=EXPECTED)
    (refused,) = tmp_path.rglob("refused/*")

    with pytest.raises(PersonalStoreFullError):
        PersonalStore(tmp_path, max_bytes=theirs.stat().st_size).save(KEY, state())

    assert theirs.exists()
    assert refused.exists()


def test_a_limit_is_at_least_one_byte(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="max_bytes must be at least 1"):
        PersonalStore(tmp_path, max_bytes=0)


# The marks of a round.


def draw() -> tuple[float, float, float, float]:
    """Take a number from each stream, and a second Gaussian, of which Python and NumPy keep one in store."""
    return (
        torch.rand(()).item(),
        np.random.normal(),  # noqa: NPY002 - the global stream is meant
        random.gauss(0, 1),
        random.random(),  # noqa: TID251 - as above
    )


def test_all_streams_come_back_to_where_they_stood(tmp_path: Path) -> None:
    """One Gaussian of each pair was taken before: the other one is part of the state."""
    draw()
    store = PersonalStore(tmp_path)
    store.save_marks(KEY, RoundMarks("r-1", 7, "p-1", Mark(capture_randomness(), {"place": [1, 2]})))
    expected = [draw(), draw()]

    back = PersonalStore(tmp_path).find_marks(KEY)

    assert back is not None
    restore_randomness_(back.began.randomness)
    assert [draw(), draw()] == expected
    assert (back.round_id, back.seed, back.process, back.ended) == ("r-1", 7, "p-1", None)
    assert back.began.carried == {"place": [1, 2]}


def test_every_process_has_marks_of_its_own(tmp_path: Path) -> None:
    store, here = PersonalStore(tmp_path), Mark(capture_randomness())
    store.save_marks(KEY, RoundMarks("r-1", 7, "p-1", here), rank=1)

    assert store.find_marks(KEY) is None
    assert store.find_marks(KEY, rank=1) is not None


def test_damaged_marks_are_set_aside(tmp_path: Path) -> None:
    store = PersonalStore(tmp_path)
    store.save_marks(KEY, RoundMarks("r-1", 7, "p-1", Mark(capture_randomness())))
    (path,) = tmp_path.rglob("round.safetensors")
    data = bytearray(path.read_bytes())
    data[-1] ^= 0x01
    path.write_bytes(data)

    with pytest.raises(PersonalStateError, match=r"digest.*go on with fresh random numbers"):
        store.find_marks(KEY)

    assert store.find_marks(KEY) is None
    assert (path.parent / "refused" / path.name).read_bytes() == data


def test_marks_of_another_device_are_set_aside(tmp_path: Path) -> None:
    store = PersonalStore(tmp_path)
    store.save_marks(KEY, RoundMarks("r-1", 7, "p-1", Mark(capture_randomness())))
    (path,) = tmp_path.rglob("round.safetensors")
    data = path.read_bytes()
    other = KEY.model_copy(update={"device": "mri-4"})
    store.save_marks(other, RoundMarks("r-1", 7, "p-1", Mark(capture_randomness())))
    next(found for found in tmp_path.rglob("round.safetensors") if found != path).write_bytes(data)

    with pytest.raises(PersonalStateError, match="belongs to"):
        store.find_marks(other)


@pytest.mark.parametrize(
    ("round_id", "seed", "process", "expected"),
    [
        ("r-1", 7, "p-2", "began"),  # it was cut off: the same round from its beginning
        ("r-1", 8, "p-1", "began"),  # also within one process, and with another seed
        ("r-2", 7, "p-2", "ended"),  # a new process with the same seed goes on for the old one
        ("r-2", 8, "p-2", None),  # another seed is another experiment
        ("r-2", 7, "p-1", None),  # this process is where it should be
    ],
)
def test_where_a_round_starts_from(*, round_id: str, seed: int, process: str, expected: str | None) -> None:
    marks = RoundMarks("r-1", 7, "p-1", Mark(capture_randomness()), Mark(capture_randomness()))

    start = marks.to_start_from(round_id=round_id, seed=seed, process=process)

    assert start is (None if expected is None else getattr(marks, expected))


@pytest.mark.parametrize(
    "changed",
    [
        {"torch_cpu": torch.zeros(100, dtype=torch.uint8)},
        {"torch_cpu": torch.zeros(5056, dtype=torch.int64)},
        {"numpy": ("MT19937", np.zeros(624, dtype=np.uint32), 10**6, 0, 0.0)},
        {"python": (9, (0,) * 625, None)},
        {"python": (3, (0,) * 624 + (10**6,), None)},
    ],
    ids=["torch size", "torch dtype", "numpy place", "python version", "python place"],
)
def test_marks_of_other_versions_are_set_aside_before_any_stream_moves(
    tmp_path: Path, *, changed: dict[str, Any]
) -> None:
    store, here = PersonalStore(tmp_path), capture_randomness()
    store.save_marks(KEY, RoundMarks("r-1", 7, "p-1", Mark(replace(here, **changed))))

    with pytest.raises(PersonalStateError, match="go on with fresh random numbers"):
        store.find_marks(KEY)

    assert store.find_marks(KEY) is None
    assert torch.equal(capture_randomness().torch_cpu, here.torch_cpu)


# Trouble with the folder.


def test_a_failed_write_leaves_the_entry_before_it_and_no_litter(tmp_path: Path) -> None:
    store = PersonalStore(tmp_path)
    store.save(KEY, state("r-1"))

    with longest_file(100), pytest.raises(PersonalStoreError, match=r"cannot be kept.*make room"):
        store.save(KEY, state("r-2"))

    assert found(store).round_id == "r-1"
    assert not list(tmp_path.rglob("*.part"))


def in_place_of_an_entry(path: Path, kind: str) -> None:
    if kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(path if kind == "loop" else path.parent / "nowhere")


@pytest.mark.skipif(os.name == "nt", reason="links need a right that users do not have there")
@pytest.mark.parametrize("kind", ["folder", "dangling link", "loop"])
def test_what_is_no_file_is_set_aside_as_a_damaged_entry_is(tmp_path: Path, kind: str) -> None:
    store = PersonalStore(tmp_path, max_bytes=10**6)
    path = store.save(KEY, state("r-1")).with_name("00000002.safetensors")
    in_place_of_an_entry(path, kind)

    with pytest.raises(PersonalStateError, match=r"00000002.safetensors cannot be used"):
        store.find(KEY, expected=EXPECTED)

    assert found(store).round_id == "r-1"
    in_place_of_an_entry(path, kind)
    for number in range(3):
        store.save(KEY, state(f"s-{number}"))
    assert found(store).round_id == "s-2"
    assert not os.path.lexists(path)


def test_two_that_write_for_one_device_do_not_disturb_each_other(tmp_path: Path) -> None:
    """Two writers and a reader, with stores of their own: no write fails, and each makes an entry."""

    def save_many(name: str) -> None:
        for number in range(20):
            PersonalStore(tmp_path).save(KEY, state(f"{name}-{number}"))

    with ThreadPoolExecutor() as threads:
        writers = [threads.submit(save_many, name) for name in "ab"]
        while not all(writer.done() for writer in writers):
            PersonalStore(tmp_path).find(KEY, expected=EXPECTED)

    for writer in writers:
        writer.result()
    assert [path.stem for path in sorted(tmp_path.rglob("*.safetensors"))] == ["00000039", "00000040"]


@pytest.mark.parametrize("name", ["..", ".", "a/b", "a\\b", "ü ?*"])
def test_names_never_leave_their_folder(tmp_path: Path, name: str) -> None:
    root = tmp_path / "root"
    key = PersonalKey(org_id=name, device=name, model_id=name, strategy="ditto")

    path = PersonalStore(root).save(key, state())

    assert path.resolve().is_relative_to(root.resolve())
    assert len(path.relative_to(root).parts) == 5


def test_a_state_survives_a_checkpoint() -> None:
    back = PersonalState.from_checkpoint(state().to_checkpoint())

    assert back == replace(state(), arrays=back.arrays, optimizer=back.optimizer)
    assert set(back.arrays) == set(EXPECTED)
    assert back.optimizer.numbers == state().optimizer.numbers
