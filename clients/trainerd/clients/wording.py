"""Words for people: enum values, text that is not ours, figures, times."""

from __future__ import annotations

import datetime
import math
import re
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from google.protobuf.timestamp_pb2 import Timestamp

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_UNITS = ("B", "kB", "MB", "GB", "TB")


class EnumType(Protocol):
    """A generated enum type."""

    def Name(self, number: int) -> str:  # noqa: N802 - protobuf's name
        """The value's name; ValueError for a number it does not know."""


def word(enum_type: EnumType, prefix: str, number: int) -> str:
    """An enum value in lower case: `word(fault_pb2.Action, "ACTION_", 3)` is "skip".

    A number that only a newer peer knows comes back as digits.
    """
    try:
        return enum_type.Name(number).removeprefix(prefix).lower()
    except ValueError:
        return str(number)


def printable(text: str) -> str:
    """`text` without control characters, newlines and tabs kept: it may hold anything."""
    return _CONTROL.sub("", text.replace("\r\n", "\n"))


def one_line(text: str) -> str:
    """`text` without control characters, on one line."""
    return " ".join(printable(text).split())


def plural(count: int, noun: str) -> str:
    """`plural(2, "restart")` is "2 restarts"; batch → batches."""
    ending = "" if count == 1 else "es" if noun.endswith(("ch", "s")) else "s"
    return f"{count:,} {noun}{ending}"


def figure(value: float) -> str:
    """A loss or a metric with about four digits."""
    if not math.isfinite(value):
        return str(value)
    return f"{value:.4f}" if 0.01 <= abs(value) < 1000 or value == 0 else f"{value:.4g}"


def rate(value: float) -> str:
    """So many a second, with three digits and no exponent."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def duration(seconds: float) -> str:
    """A span such as "0.42 s", "42 s", "3 min 05 s", "2 h 03 min", "3 d 4 h"."""
    if seconds < 10:
        return f"{max(seconds, 0):.2g} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86_400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86_400} d {whole % 86_400 // 3600} h"


def size(count_bytes: int) -> str:
    """A size in decimal units, such as "12.3 MB"."""
    value, unit = float(count_bytes), 0
    while value >= 999.5 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return f"{value:.0f} {_UNITS[unit]}" if unit == 0 else f"{value:.1f} {_UNITS[unit]}"


def percent(part: int, whole: int) -> str:
    """`part` of `whole`, rounded down: 100 % means all of it."""
    return f"{100 * part // whole} %" if whole > 0 else "- %"


def local_time(time: Timestamp) -> datetime.datetime | None:
    """A timestamp in this machine's time zone; None if it is not set."""
    if not time.seconds and not time.nanos:
        return None
    return time.ToDatetime(tzinfo=datetime.UTC).astimezone()


def clock(time: Timestamp) -> str:
    """A timestamp's local time of day; "--:--:--" if it is not set."""
    local = local_time(time)
    return f"{local:%H:%M:%S}" if local else "--:--:--"


def date_and_clock(time: Timestamp) -> str:
    """A timestamp's local date and time; "-" if it is not set."""
    local = local_time(time)
    return f"{local:%Y-%m-%d %H:%M:%S}" if local else "-"


def age(time: Timestamp, now: datetime.datetime) -> str:
    """How long ago a timestamp was, in one unit: "42 s", "5 min", "3 h", "2 d"."""
    local = local_time(time)
    if local is None:
        return "-"
    seconds = max(int((now - local).total_seconds()), 0)
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length or (unit == "min" and seconds >= length):
            return f"{seconds // length} {unit}"
    return f"{seconds} s"
