"""Figures and times as people read them."""

from __future__ import annotations

import datetime
import math

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from trainerd.clients import wording


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.0134, "0.013 s"),
        (4.26, "4.3 s"),
        (42.4, "42 s"),
        (59.7, "1 min 00 s"),
        (185, "3 min 05 s"),
        (7380, "2 h 03 min"),
        (273_600, "3 d 4 h"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert wording.duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (2.33333, "2.3333"),
        (0.0, "0.0000"),
        (0.00012345, "0.0001234"),
        (123456.0, "1.235e+05"),
        (math.nan, "nan"),
        (-math.inf, "-inf"),
    ],
)
def test_figures(value: float, text: str) -> None:
    assert wording.figure(value) == text


@pytest.mark.parametrize(
    ("count", "text"), [(999, "999 B"), (1000, "1.0 kB"), (12_340_000, "12.3 MB")]
)
def test_sizes(count: int, text: str) -> None:
    assert wording.size(count) == text


@pytest.mark.parametrize(("value", "text"), [(0.5, "0.50"), (12.34, "12.3"), (38712, "38,712")])
def test_rates(value: float, text: str) -> None:
    assert wording.rate(value) == text


def test_only_all_of_it_is_a_hundred_percent() -> None:
    assert wording.percent(399, 400) == "99 %"
    assert wording.percent(400, 400) == "100 %"
    assert wording.percent(1, 0) == "- %"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59, "59 s"), (60, "1 min"), (7199, "119 min"), (7200, "2 h"), (172_800, "2 d")],
)
def test_ages(seconds: int, text: str) -> None:
    now = datetime.datetime(2030, 1, 31, tzinfo=datetime.UTC)
    then = Timestamp()
    then.FromDatetime(now - datetime.timedelta(seconds=seconds))
    assert wording.age(then, now) == text


def test_a_time_that_is_not_set_is_no_time() -> None:
    now = datetime.datetime.now(datetime.UTC)
    assert wording.age(Timestamp(), now) == "-"
    assert wording.clock(Timestamp()) == "--:--:--"
    assert wording.date_and_clock(Timestamp()) == "-"


def test_plurals() -> None:
    assert wording.plural(1, "batch") == "1 batch"
    assert wording.plural(2, "batch") == "2 batches"
    assert wording.plural(1200, "slot") == "1,200 slots"
