"""Reading the configuration again while the daemon runs.

A part that can change while it runs is a `Live`. All of them prepare what the new file says before
any applies it: a file with one mistake changes nothing, and every mistake is told.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import structlog

from trainerd.daemon.config import Config, ConfigError
from trainerd.v1.service_manager import sd_notify

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """A part that takes a new configuration while it runs.

    `keys`: the key paths ("log.level") it takes. `prepare` checks and opens whatever may fail, for
    every reload, changed or not (a certificate is a file), and returns what applies it, which
    cannot fail. It raises `ConfigError`.
    """

    keys: frozenset[str]
    prepare: Callable[[Config], Callable[[], None]]


class Reloading:
    """Reloads on request. `load` reads the configuration as at the start."""

    def __init__(self, config: Config, load: Callable[[], Config], parts: Sequence[Live]) -> None:
        self._load = load
        self._parts = parts
        self._in_force = values(config)

    def on_signal(self) -> None:
        """Reload, and tell systemd when that begins and that it is over; see sd_notify(3)."""
        began_us = time.monotonic_ns() // 1000
        with contextlib.suppress(OSError):
            sd_notify(f"RELOADING=1\nMONOTONIC_USEC={began_us}")
        self.reload()
        with contextlib.suppress(OSError):
            sd_notify("READY=1")

    def reload(self) -> bool:
        """Take what the file says now; False, logged: it is wrong, and nothing has changed."""
        problems: list[str] = []
        ready: list[Callable[[], None]] = []
        try:
            config = self._load()
        except ConfigError as error:
            problems += error.problems
        else:
            for part in self._parts:
                try:
                    ready.append(part.prepare(config))
                except ConfigError as error:
                    problems += error.problems
        if problems:
            log.error("configuration_not_reloaded", problems=problems)
            return False
        for apply in ready:
            apply()
        self._tell(values(config))
        return True

    def _tell(self, wanted: Mapping[str, object]) -> None:
        live = frozenset[str]().union(*(part.keys for part in self._parts))
        changed = [key for key in wanted if wanted[key] != self._in_force[key]]
        taken = {key: wanted[key] for key in changed if key in live}
        self._in_force = {**self._in_force, **taken}
        log.info("configuration_reloaded", changed=sorted(taken))
        waiting = sorted(set(changed) - live)
        if waiting:
            log.warning("configuration_needs_restart", keys=waiting)


def values(config: Config) -> dict[str, object]:
    """Every value of a configuration by its key path."""
    return {
        f"{section.name}.{key.name}": getattr(getattr(config, section.name), key.name)
        for section in dataclasses.fields(config)
        for key in dataclasses.fields(getattr(config, section.name))
    }
