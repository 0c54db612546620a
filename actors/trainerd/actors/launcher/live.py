"""Which trainers live, on disk: the next launcher reports the exits that this one cannot."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import structlog

from trainerd.actors.launcher import process_identity
from trainerd.actors.launcher.exits import Exit, ExitStore
from trainerd.actors.launcher.files import write_durably
from trainerd.actors.launcher.logs import tail
from trainerd.actors.launcher.runs import RunFiles
from trainerd.actors.launcher.times import taken

SURVIVOR_TIMEOUT_S = 10.0

_log = structlog.get_logger("trainerd.launcher")


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveRecord:
    """A trainer that runs; `started` in clock ticks since boot."""

    run: str
    incarnation: int
    pid: int
    started: int


def write_live(path: Path, records: Iterable[LiveRecord]) -> None:
    """Record which trainers live, durably."""
    entry = {
        "boot": process_identity.boot_id(),
        "trainers": [asdict(record) for record in records],
    }
    write_durably(path, json.dumps(entry).encode())


def bury_the_dead(path: Path, exits: ExitStore, state_directory: Path) -> None:
    """Record the exit of every trainer that lived when the launcher before this one died.

    A trainer dies with its launcher; one that has not yet is killed here, so that no two
    launchers' trainers ever share the devices.
    """
    try:
        entry = json.loads(path.read_bytes())
        records = [LiveRecord(**record) for record in entry["trainers"]]
    except FileNotFoundError:
        return
    except (ValueError, TypeError, KeyError) as error:
        _log.error("live_record_unreadable", path=str(path), error=str(error))
        return
    same_boot = entry.get("boot") == process_identity.boot_id()
    for record in records:
        survived = same_boot and process_identity.kill_if_same(
            record.pid, record.started, timeout_s=SURVIVOR_TIMEOUT_S
        )
        if exits.find(record.run, record.incarnation) is None:
            files = RunFiles.of(state_directory, record.run)
            note = "trainerd: the launcher of this trainer died; the trainer ended with it"
            exits.add(
                Exit(
                    run=record.run,
                    incarnation=record.incarnation,
                    pid=record.pid,
                    exit_code=-1,
                    signal=9,
                    killed_by_launcher=False,
                    log_tail="\n".join(filter(None, (tail(files.log(record.incarnation)), note))),
                    times_s=taken(files.times(record.incarnation)),
                )
            )
        _log.warning(
            "trainer_lost_with_its_launcher",
            run=record.run,
            incarnation=record.incarnation,
            pid=record.pid,
            survived=survived,
        )
    write_live(path, ())
