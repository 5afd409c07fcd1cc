"""The benchmarks in their short form: that they still run against what the packages are today."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import large_round, lightning, quality, updates
from benchmarks.measuring import interleave, least_ratio, median_ratio, peak_growth_bytes
from benchmarks.peers import PEERS, Absent, find
from benchmarks.rounds import RoundSystem, rounds_of
from benchmarks.shapes import num_parameters


def test_the_benchmark_of_updates_fills_its_tables(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "updates.json"

    assert updates.main(["--short", "--tables", "updates", "stages", "aggregation", "--out", str(out)]) == 0

    figures = json.loads(out.read_text(encoding="utf-8"))
    assert "absent" not in out.read_text(encoding="utf-8")
    assert {name for name, case in figures["updates"]["ours"]["cases"].items() if case["num_bytes"]} >= {
        "dense float32, as a stream",
        "dense float32, on disk and synced",
    }
    assert "Summing 3 updates" in capsys.readouterr().out


@pytest.mark.timeout(300)  # fifteen processes start one after the other
def test_the_benchmark_of_whole_rounds_fills_its_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "updates.json"

    assert updates.main(["--short", "--tables", "rounds", "--out", str(out)]) == 0

    figures = json.loads(out.read_text(encoding="utf-8"))
    assert "absent" not in out.read_text(encoding="utf-8")
    assert set(figures["rounds"]) >= {
        "limit: raw sockets, no disk",
        "limit: plain HTTP, no disk",
        "ours, dense float32",
    }
    assert "A whole round without training" in capsys.readouterr().out


def test_a_whole_round_is_held_against_both_limits(capsys: pytest.CaptureFixture[str]) -> None:
    """0.6 s are 6 times the 0.1 s of the sockets and 3 times the 0.2 s of HTTP."""
    seconds = {"limit: raw sockets, no disk": 0.1, "limit: plain HTTP, no disk": 0.2, "ours": 0.6}
    rounds = {title: {"2": {"steady_round_s": {"median": median}}} for title, median in seconds.items()}

    updates.show({"rounds": rounds}, updates.SHORT)

    *_, ours = capsys.readouterr().out.splitlines()
    assert ours.split() == ["ours", "2", "600", "ms", "6.00", "3.00"]


def test_a_round_that_cannot_be_measured_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    failing = RoundSystem(None, "benchmarks.round_parts.nobody_wrote_this")

    figures = rounds_of(failing, size="tiny", num_devices=1, num_rounds=2)
    updates.show({"rounds": {"a peer": {"1": figures}}}, updates.SHORT)

    assert "a peer: failed:" in capsys.readouterr().out
    assert "nobody_wrote_this" in figures["absent"]


def test_the_benchmark_of_quality_fills_its_tables_and_draws_its_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, picture = tmp_path / "quality.json", tmp_path / "quality.png"

    assert quality.main(["--short", "--out", str(out), "--picture", str(picture)]) == 0

    figures = json.loads(out.read_text(encoding="utf-8"))
    for task in ("digits", "text"):
        assert {len(curve["metric"]) for curve in figures[task].values()} == {2}
        sent = {form: curve["bytes_per_parameter"] for form, curve in figures[task].items()}
        assert sent["top 10 %, 4 bit"] < sent["top 10 %, 8 bit"] < 4 < sent["float32"]
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "loss (nats per byte) of the global model after 2 rounds" in capsys.readouterr().out


def test_the_benchmark_of_training_steps_fills_its_tables(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "lightning.json"

    assert lightning.main(["--short", "--out", str(out)]) == 0

    figures = json.loads(out.read_text(encoding="utf-8"))
    assert "absent" not in out.read_text(encoding="utf-8")
    assert set(figures["steps"]["tiny, batch 4"]) >= {"ours, FedProx", "ours, Ditto", "Trainer, DittoModule"}
    assert "ours" in figures["term"]
    assert set(figures["round"]) == {"Trainer, plain", "FedAvg, whole update", "FedAvg, top 10 %, 4 bit"}
    assert set(figures["machine"]) == {
        "cores", "threads", "load_average_1_min", "python", "machine", "system", "versions"
    }  # fmt: skip
    assert "The proximal term alone" in capsys.readouterr().out


@pytest.mark.timeout(300)  # three servers start one after the other
def test_the_benchmark_of_a_large_round_fills_its_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "large_round.json"

    assert large_round.main(["--size", "tiny", "--out", str(out)]) == 0

    rounds = json.loads(out.read_text(encoding="utf-8"))["rounds"]
    assert set(rounds) == {"clip, error feedback, top-k 10 %, 4 bit", "dense float32"}
    assert all(figures["seconds"] > 0 for figures in rounds.values())
    assert "A whole round on one device" in capsys.readouterr().out


def test_each_case_is_held_against_the_reference_of_its_own_turn() -> None:
    calls: list[str] = []

    pairs = interleave(
        {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")},
        repetitions=2,
        reference=lambda: calls.append("limit"),
    )

    assert calls == ["limit", "a", "limit", "b"] * 3  # the first turn is thrown away
    assert [len(rows) for rows in pairs.values()] == [2, 2]


def test_ratios_are_taken_turn_by_turn() -> None:
    """2/1, 9/3 and 4/1 have the median 3; the least of each are 2 and 1, so 2."""
    pairs = [(2.0, 1.0), (9.0, 3.0), (4.0, 1.0)]

    assert median_ratio(pairs) == 3.0
    assert least_ratio(pairs) == 2.0


def test_the_peak_counts_memory_that_was_given_back() -> None:
    """32 MiB, written and dropped within the call, count."""
    size = 32 * 2**20

    grown, result = peak_growth_bytes(lambda: len(bytearray(b"\1") * size))

    assert result == size
    assert grown > 0.9 * size


def test_the_model_is_as_large_as_a_resnet18() -> None:
    """That of torchvision has 11,689,512 parameters; 9,600 running statistics come on top."""
    assert num_parameters("11M") == 11_689_512 + 9_600


def test_a_peer_that_was_never_installed_says_so(tmp_path: Path) -> None:
    state = find(PEERS["flower"], folder=tmp_path)

    assert isinstance(state, Absent)
    assert "not installed" in state.reason
