"""The delivery rules of every link: bounded, in order, resent, never twice."""

from __future__ import annotations

import threading

import pytest

from trainerd.v1.mailbox import Inbox, MailboxOverflow, Outbox


def sequences(outbox: Outbox[str]) -> list[int]:
    lifecycle, _ = outbox.take(0.0)
    return [numbered.sequence for numbered in lifecycle]


def test_lifecycle_messages_are_taken_once_and_in_order():
    outbox: Outbox[str] = Outbox()
    assert [outbox.post(text) for text in "abc"] == [1, 2, 3]
    lifecycle, _ = outbox.take(0.0)
    assert [(n.sequence, n.message) for n in lifecycle] == [(1, "a"), (2, "b"), (3, "c")]
    assert sequences(outbox) == []


def test_after_a_reconnect_only_what_was_not_acknowledged_is_sent_again():
    outbox: Outbox[str] = Outbox()
    for text in "abc":
        outbox.post(text)
    outbox.take(0.0)
    outbox.acknowledge(1)
    outbox.rewind(2)
    assert sequences(outbox) == [3]


def test_without_a_reconnect_nothing_is_sent_again():
    outbox: Outbox[str] = Outbox()
    outbox.post("a")
    outbox.take(0.0)
    outbox.post("b")
    assert sequences(outbox) == [2]


def test_an_acknowledgement_frees_the_mailbox():
    outbox: Outbox[str] = Outbox(limit=1)
    outbox.post("a")
    outbox.acknowledge(1)
    outbox.post("b")
    assert len(outbox) == 1


def test_an_overflow_drops_everything_counts_it_and_says_so():
    outbox: Outbox[str] = Outbox(limit=2)
    outbox.post("a")
    outbox.post("b")
    with pytest.raises(MailboxOverflow, match="limit 2"):
        outbox.post("c")
    assert (len(outbox), outbox.dropped) == (0, 3)
    assert outbox.post("d") == 4
    assert sequences(outbox) == [4]


def test_telemetry_keeps_the_newest_of_a_kind_only():
    outbox: Outbox[str] = Outbox(limit=1)
    for n in range(5000):
        outbox.coalesce("step", f"step {n}")
    outbox.coalesce("heartbeat", "beat")
    assert outbox.take(0.0) == ([], ["step 4999", "beat"])
    assert outbox.take(0.0) == ([], [])


def test_telemetry_that_adds_up_is_merged():
    outbox: Outbox[str] = Outbox()
    for text in "abc":
        outbox.coalesce("step", text, lambda older, newer: older + newer)
    assert outbox.take(0.0) == ([], ["abc"])


def test_a_message_wakes_the_taker():
    outbox: Outbox[str] = Outbox()
    taken: list[list[int]] = []
    taker = threading.Thread(
        target=lambda: taken.append([n.sequence for n in outbox.take(30.0)[0]])
    )
    taker.start()
    outbox.post("a")
    taker.join(20.0)
    assert taken == [[1]]


def test_waiting_for_acknowledgement_ends_with_it():
    outbox: Outbox[str] = Outbox()
    outbox.post("a")
    assert not outbox.wait_acknowledged(0.0)
    outbox.acknowledge(1)
    assert outbox.wait_acknowledged(0.0)


def test_closing_wakes_whoever_waits():
    outbox: Outbox[str] = Outbox()
    taker = threading.Thread(target=lambda: outbox.take(30.0))
    taker.start()
    outbox.close()
    taker.join(20.0)
    assert not taker.is_alive()


def test_a_mailbox_without_room_is_refused():
    with pytest.raises(ValueError, match="limit must be ≥ 1, got 0"):
        Outbox(limit=0)


def test_a_duplicate_is_a_counted_no_op():
    inbox = Inbox()
    assert inbox.accept("r", 1, 1)
    assert inbox.accept("r", 1, 2)
    assert not inbox.accept("r", 1, 2)
    assert not inbox.accept("r", 1, 1)
    assert (inbox.duplicates, inbox.stale) == (2, 0)
    assert inbox.acknowledged("r", 1) == 2


def test_a_message_of_a_past_incarnation_is_a_counted_no_op():
    inbox = Inbox()
    assert inbox.accept("r", 2, 1)
    assert not inbox.accept("r", 1, 7)
    assert (inbox.duplicates, inbox.stale) == (0, 1)
    assert inbox.acknowledged("r", 1) == 0


def test_a_new_incarnation_counts_from_one_again():
    inbox = Inbox()
    assert inbox.accept("r", 1, 9)
    assert inbox.accept("r", 2, 1)
    assert inbox.acknowledged("r", 2) == 1


def test_runs_do_not_disturb_one_another():
    inbox = Inbox()
    assert inbox.accept("a", 5, 3)
    assert inbox.accept("b", 1, 1)
    inbox.forget("a")
    assert inbox.accept("a", 1, 1)
