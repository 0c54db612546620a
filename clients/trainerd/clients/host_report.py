"""Hosts as text: the table of `hosts`."""

from __future__ import annotations

from collections.abc import Iterable

from trainerd.clients.wording import duration, one_line
from trainerd.v1 import control_pb2


def hosts_table(hosts: Iterable[control_pb2.Host]) -> list[str]:
    """Aligned rows with a heading; below it why hosts are not linked."""
    known = list(hosts)
    rows = [("HOST", "STATE", "RUN", "DEVICES", "CLOCK", "TRAINERD"), *map(_row, known)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return lines + [
        f"{one_line(host.name)}: {one_line(host.problem)}" for host in known if host.problem
    ]


def state_of(host: control_pb2.Host) -> str:
    """In one or two words."""
    here = "linked" if host.linked else "no launcher"
    state = here if host.joined else "lost"
    return f"{state}, drained" if host.draining else state


def _row(host: control_pb2.Host) -> tuple[str, ...]:
    name = one_line(host.name)
    return (
        f"{name} (supervisor)" if host.supervisor else name,
        state_of(host),
        f"{one_line(host.run)} #{host.process}" if host.run else "-",
        one_line(host.devices) or "-",
        _clock(host),
        one_line(host.software) or "-",
    )


def _clock(host: control_pb2.Host) -> str:
    if not host.HasField("clock_offset_s"):
        return "-"
    if host.supervisor:
        return "0"
    offset_s, error = host.clock_offset_s, f"± {1e3 * host.clock_error_s:.1f} ms"
    if abs(offset_s) < 1:
        return f"{1e3 * offset_s:+.1f} ms {error}"
    return f"{'+' if offset_s > 0 else '-'}{duration(abs(offset_s))} {error}"
