"""Exit records on disk: numbered for ever, bounded, whole after a crash."""

from __future__ import annotations

import asyncio

import pytest

from trainerd.actors.launcher.exits import Exit, ExitStore


def exit_of(incarnation: int, **changes) -> Exit:
    values = {
        "run": "r-1",
        "incarnation": incarnation,
        "pid": 7,
        "exit_code": 3,
        "signal": 0,
        "killed_by_launcher": False,
        "log_tail": "ünïcode\nline",
    } | changes
    return Exit(**values)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "exits.jsonl"


def test_records_survive_the_launcher(path):
    first = ExitStore(path)
    added = [first.add(exit_of(n)) for n in (1, 2)]
    assert [record.sequence for record in added] == [1, 2]
    assert ExitStore(path).after(0) == added


def test_acknowledged_records_are_forgotten_and_their_numbers_never_come_again(path):
    store = ExitStore(path)
    for n in (1, 2, 3):
        store.add(exit_of(n))
    store.acknowledge(2)
    assert [r.incarnation for r in store.after(0)] == [3]
    again = ExitStore(path)
    assert [r.incarnation for r in again.after(0)] == [3]
    again.acknowledge(3)
    assert ExitStore(path).add(exit_of(4)).sequence == 4


def test_an_acknowledgement_of_another_state_directory_forgets_nothing(path):
    store = ExitStore(path)
    store.add(exit_of(1))
    store.acknowledge(50)
    assert len(store.after(0)) == 1


def test_a_line_cut_short_by_a_crash_is_left_out_and_the_file_goes_on(path):
    store = ExitStore(path)
    store.add(exit_of(1))
    with path.open("ab") as stream:
        stream.write(b'{"run": "r-1", "incarn')
    again = ExitStore(path)
    assert [r.incarnation for r in again.after(0)] == [1]
    again.add(exit_of(2))
    assert [r.incarnation for r in ExitStore(path).after(0)] == [1, 2]


def test_beyond_the_limit_the_oldest_record_goes(path):
    store = ExitStore(path, limit=2)
    for n in (1, 2, 3):
        store.add(exit_of(n))
    assert [r.sequence for r in store.after(0)] == [2, 3]
    assert [r.sequence for r in ExitStore(path, limit=2).after(0)] == [2, 3]


def test_a_record_the_disk_refuses_is_told_all_the_same_and_written_with_the_next(path):
    store = ExitStore(path)
    parent, hidden = path.parent, path.parent.with_name("hidden")
    parent.rename(hidden)
    store.add(exit_of(1))
    assert [r.incarnation for r in store.after(0)] == [1]
    hidden.rename(parent)
    store.add(exit_of(2))
    assert [r.incarnation for r in ExitStore(path).after(0)] == [1, 2]


def test_a_watcher_wakes_for_a_record(path):
    async def scenario() -> bool:
        store = ExitStore(path)
        waiter = asyncio.create_task(store.wait_beyond(store.last_sequence))
        await asyncio.sleep(0)
        asleep = not waiter.done()
        store.add(exit_of(1))
        async with asyncio.timeout(5):
            await waiter
        return asleep

    assert asyncio.run(scenario())


def test_a_record_becomes_its_message(path):
    record = ExitStore(path).add(exit_of(2, exit_code=-1, signal=9, killed_by_launcher=True))
    message = record.to_proto()
    assert (message.sequence, message.run, message.incarnation) == (1, "r-1", 2)
    exited = message.exited
    assert (exited.exit_code, exited.signal, exited.killed_by_launcher) == (-1, 9, True)
    assert exited.log_tail == "ünïcode\nline"
