"""What waits to be sent over a link."""

from __future__ import annotations

import asyncio

from trainerd.daemon.cluster.waiting import MOST, Waiting
from unit.daemon.house import play


def test_all_that_waits_is_taken_at_once_in_order() -> None:
    async def scene() -> None:
        waiting: Waiting[int] = Waiting()
        for number in range(MOST + 2):
            waiting.put(number)

        assert await waiting.take() == list(range(MOST))
        assert await waiting.take() == [MOST, MOST + 1]

    play(scene)


def test_a_taker_waits_for_the_first() -> None:
    async def scene() -> None:
        waiting: Waiting[int] = Waiting()
        taker = asyncio.create_task(waiting.take())
        await asyncio.sleep(0)
        assert not taker.done()
        waiting.put(7)
        assert await taker == [7]

    play(scene)


def test_what_is_too_much_ends_it_and_nothing_of_it_is_sent() -> None:
    async def scene() -> None:
        waiting: Waiting[int] = Waiting(limit=2)
        for number in range(3):
            waiting.put(number)

        assert await waiting.take() == []
        assert waiting.problem == "2 messages wait, limit 2"
        waiting.end("another reason")
        waiting.put(4)
        assert await waiting.take() == []
        assert waiting.problem == "2 messages wait, limit 2"

    play(scene)
