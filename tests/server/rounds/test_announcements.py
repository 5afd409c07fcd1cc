"""Those who wait hear of changes at once, without holding a thread."""

from __future__ import annotations

import asyncio
import threading

from edgeml_server.rounds.announcements import Announcements, device_topic, round_topic


def test_an_announcement_from_another_thread_wakes_whoever_awaits_it() -> None:
    announcements = Announcements()

    async def scenario() -> bool:
        with announcements.listening(device_topic("d-1")) as listener:
            threading.Thread(target=announcements.announce, args=([device_topic("d-1")],)).start()
            return await listener.heard(timeout_s=30)

    assert asyncio.run(scenario())


def test_an_announcement_between_looking_and_waiting_is_not_missed() -> None:
    announcements = Announcements()

    async def scenario() -> tuple[bool, bool]:
        with announcements.listening(round_topic("r-1")) as listener:
            announcements.announce([round_topic("r-1")])
            first = await listener.heard(timeout_s=30)
            return first, await listener.heard(timeout_s=0.0)

    assert asyncio.run(scenario()) == (True, False)


def test_only_those_who_listen_to_the_topic_are_woken() -> None:
    announcements = Announcements()

    with (
        announcements.listening_in_thread("a") as one,
        announcements.listening_in_thread("a") as two,
        announcements.listening_in_thread("b") as other,
    ):
        announcements.announce(["a", "nobody"])

        assert [listener.heard(timeout_s=0) for listener in (one, two, other)] == [True, True, False]
        assert announcements.topics == {"a", "b"}
    assert announcements.topics == frozenset()


def test_a_thousand_waiting_devices_hold_no_thread() -> None:
    announcements = Announcements()

    async def wait_for(device: int) -> bool:
        with announcements.listening(device_topic(str(device))) as listener:
            return await listener.heard(timeout_s=60)

    async def scenario() -> tuple[int, list[bool]]:
        waiting = [asyncio.create_task(wait_for(device)) for device in range(1000)]
        await asyncio.sleep(0)  # each of them runs up to its wait
        num_threads = threading.active_count()
        announcements.announce([device_topic(str(device)) for device in range(1000)])
        return num_threads, await asyncio.gather(*waiting)

    before = threading.active_count()
    num_threads, heard = asyncio.run(scenario())

    assert num_threads == before
    assert all(heard)


def test_closing_wakes_everybody_and_nobody_waits_afterwards() -> None:
    announcements = Announcements()

    with announcements.listening_in_thread("a") as early:
        announcements.close()
        assert early.heard(timeout_s=0)
    with announcements.listening_in_thread("a") as late:
        assert late.heard(timeout_s=0)
    assert announcements.is_closed


def test_a_listener_whose_loop_has_closed_is_passed_over() -> None:
    announcements = Announcements()

    async def listen() -> None:
        listening.append(announcements.listening("a"))
        listening[0].__enter__()

    listening: list = []
    asyncio.run(listen())

    with announcements.listening_in_thread("a") as other:
        announcements.announce(["a"])

        assert other.heard(timeout_s=0)
    listening[0].__exit__(None, None, None)
