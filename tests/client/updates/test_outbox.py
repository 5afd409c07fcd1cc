"""An update in the outbox is there for good, until the control plane holds or refuses it."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from edgeml_client.errors import ConfigurationError, InvalidUpdateError, OutboxBusyError
from edgeml_client.updates import encode_update
from edgeml_client.updates.outbox import Outbox, path_segment
from tests.envelopes import envelope


def _update(round_id: str, value: float = 1.0) -> bytes:
    return encode_update(envelope(round_id=round_id), {"w": np.full(3, value, np.float32)})


def _set_age(path: Path, age_s: int) -> None:
    os.utime(path, ns=(10**18 - age_s * 10**9, 10**18 - age_s * 10**9))


def test_what_is_put_is_found_again_by_another_program(tmp_path: Path) -> None:
    stored = Outbox(tmp_path / "a" / "b").put(_update("r-1"))

    (found,) = Outbox(tmp_path / "a" / "b").pending()

    assert found == stored
    assert found.header.round_id == "r-1"
    assert found.path.read_bytes() == _update("r-1")
    assert found.idempotency_key == stored.idempotency_key


def test_the_idempotency_key_fits_a_header_whatever_the_round_is_called(tmp_path: Path) -> None:
    keys = {Outbox(tmp_path).put(_update(name)).idempotency_key for name in ("Runde-é", "r\n1", "r" * 500)}

    assert len(keys) == 3
    assert all(key.isascii() and key.isalnum() and len(key) == 64 for key in keys)


def test_an_outbox_without_a_folder_is_empty(tmp_path: Path) -> None:
    assert Outbox(tmp_path / "absent").pending() == ()
    assert not (tmp_path / "absent").exists()


def test_the_oldest_comes_first(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    for round_id, age_s in (("r-2", 5), ("r-1", 1), ("r-3", 9)):
        _set_age(outbox.put(_update(round_id)).path, age_s)

    assert [update.header.round_id for update in outbox.pending()] == ["r-3", "r-2", "r-1"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")
def test_only_the_user_can_read_it(tmp_path: Path) -> None:
    update = Outbox(tmp_path / "outbox").put(_update("r-1"))

    assert update.path.stat().st_mode & 0o077 == 0
    assert (tmp_path / "outbox").stat().st_mode & 0o077 == 0


def test_names_from_the_network_never_leave_the_folder(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox")

    for round_id in ("../../evil", "..", "C:\\evil", "x" * 5000, "ä/ö"):
        assert outbox.put(_update(round_id)).path.parent == tmp_path / "outbox"

    assert {update.header.round_id for update in outbox.pending()} == {
        "../../evil", "..", "C:\\evil", "x" * 5000, "ä/ö",
    }  # fmt: skip
    assert path_segment("x" * 5000) != path_segment("x" * 5001)


def test_a_second_update_of_a_round_takes_the_place_of_the_first(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    first = outbox.put(_update("r-1", 1.0))
    second = outbox.put(_update("r-1", 2.0))

    outbox.remove(first)

    assert outbox.pending() == (second,)
    outbox.remove(second)
    outbox.remove(second)
    assert outbox.pending() == ()


def test_only_updates_can_be_put(tmp_path: Path) -> None:
    with pytest.raises(InvalidUpdateError):
        Outbox(tmp_path).put(b"no update")

    assert list(tmp_path.iterdir()) == []


def test_what_a_crash_left_half_written_is_cleared_away(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    outbox.put(_update("r-1"))
    leftover = tmp_path / ".0123.part"
    leftover.write_bytes(_update("r-2")[:50])

    assert [update.header.round_id for update in outbox.pending()] == ["r-1"]
    assert not leftover.exists()


def test_a_file_that_is_no_update_is_set_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "damaged.update").write_bytes(b"\x00" * 100)

    assert Outbox(tmp_path).pending() == ()
    assert (tmp_path / "rejected" / "damaged.update").exists()
    assert "will not be sent again" in caplog.text


def test_the_newest_sixteen_refused_updates_are_kept(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    for number in range(20):
        update = outbox.put(_update(f"r-{number:02}"))
        _set_age(update.path, 100 - number)
        outbox.reject(update.path, reason="a test")

    kept = sorted(path.name for path in (tmp_path / "rejected").iterdir())

    assert kept == [f"r-{number:02}.update" for number in range(4, 20)]


def test_a_round_counts_as_refused_until_an_update_of_it_is_accepted(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    outbox.reject(outbox.put(_update("r-1")).path, reason="a test")
    assert outbox.holds_rejected("r-1")

    outbox.remove(outbox.put(_update("r-1", 2.0)))

    assert not outbox.holds_rejected("r-1")


def test_a_failed_write_leaves_the_older_update_and_no_other_file(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    outbox.put(_update("r-1"))
    blocked = tmp_path / "r-2.update"
    blocked.mkdir()

    with pytest.raises(ConfigurationError, match=r"cannot be stored in .* writable folder as state_dir"):
        outbox.put(_update("r-2"))

    assert list(tmp_path.glob("*.part")) == []
    assert (tmp_path / "r-1.update").exists()


def test_one_thread_sends_at_a_time(tmp_path: Path) -> None:
    outbox, holding, done = Outbox(tmp_path), threading.Event(), threading.Event()

    def hold() -> None:
        with Outbox(tmp_path).sending(timeout_s=5):
            holding.set()
            done.wait(30)

    holder = threading.Thread(target=hold)
    holder.start()
    assert holding.wait(30)
    try:
        with pytest.raises(OutboxBusyError, match="one device runs once"), outbox.sending(timeout_s=0):
            pass
    finally:
        done.set()
        holder.join()
    with outbox.sending(timeout_s=0):
        pass


def test_one_process_sends_at_a_time_and_a_killed_one_lets_go(tmp_path: Path) -> None:
    program = (
        "import sys, pathlib\n"
        "from edgeml_client.updates.outbox import Outbox\n"
        "with Outbox(pathlib.Path(sys.argv[1])).sending(timeout_s=5):\n"
        "    print('holding', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "holding\n"
        with pytest.raises(OutboxBusyError), Outbox(tmp_path).sending(timeout_s=0):
            pass
        other.kill()
        other.wait()

    with Outbox(tmp_path).sending(timeout_s=5):
        pass
