"""Exit records on disk: what the daemon has not journalled yet survives the launcher."""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from trainerd.actors.launcher.files import append_durably, write_durably
from trainerd.v1 import event_pb2, launcher_pb2, timesheet_pb2

LIMIT = 1024
"""Most unacknowledged records; beyond it the oldest are dropped, and the log says so."""

_log = structlog.get_logger("trainerd.launcher")


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """How one trainer process ended. `exit_code` is -1 and `signal` set if a signal ended it.

    `times_s`: how it spent its time, by the names of `trainerd.v1.Activity`.
    `drained`: the launcher had asked it to save and go.
    """

    run: str
    incarnation: int
    pid: int
    exit_code: int
    signal: int
    killed_by_launcher: bool
    log_tail: str
    stacks: str = ""
    times_s: Mapping[str, float] = field(default_factory=dict)
    drained: bool = False
    sequence: int = 0

    def to_proto(self) -> launcher_pb2.ExitRecord:
        """The record as it is streamed."""
        return launcher_pb2.ExitRecord(
            sequence=self.sequence,
            run=self.run,
            incarnation=self.incarnation,
            exited=event_pb2.TrainerExited(
                exit_code=self.exit_code,
                signal=self.signal,
                killed_by_launcher=self.killed_by_launcher,
                log_tail=self.log_tail,
                stacks=self.stacks,
                times=[
                    timesheet_pb2.ActivityTime(activity=activity, seconds=seconds)
                    for activity, seconds in self.times_s.items()
                ],
                drained=self.drained,
            ),
        )


class ExitStore:
    """The unacknowledged exit records, in a file of one JSON object a line.

    The first line is `{"sequence": N}`: sequences rise for ever, whatever is dropped. A line cut
    short by a crash is left out: its record was never streamed. Used from the event loop's thread.
    """

    def __init__(self, path: Path, *, limit: int = LIMIT) -> None:
        self._path = path
        self._limit = limit
        self._records: collections.deque[Exit] = collections.deque()
        self._sequence = 0
        self._on_disk = False
        self._changed = asyncio.Event()
        self._load()

    @property
    def last_sequence(self) -> int:
        """The sequence of the newest record ever."""
        return self._sequence

    def add(self, record: Exit) -> Exit:
        """Number a record and write it durably; then wake the watchers.

        A disk that refuses the write does not hide an exit: the record is streamed all the same,
        and written with the next one.
        """
        self._sequence += 1
        record = dataclasses.replace(record, sequence=self._sequence)
        self._records.append(record)
        overflow = len(self._records) > self._limit
        if overflow:
            dropped = self._records.popleft()
            _log.error(
                "exit_record_dropped",
                run=dropped.run,
                incarnation=dropped.incarnation,
                limit=self._limit,
            )
        try:
            if self._on_disk and not overflow:
                self._on_disk = False
                append_durably(self._path, _line(dataclasses.asdict(record)))
                self._on_disk = True
            else:
                self._rewrite()
        except OSError as error:
            _log.error("exit_record_not_written", path=str(self._path), error=str(error))
        self._wake()
        return record

    def acknowledge(self, sequence: int) -> None:
        """Forget records up to `sequence`. A number never given here acknowledges nothing:
        it speaks of a state directory that is gone."""
        if sequence > self._sequence:
            _log.warning("acknowledgement_ignored", sequence=sequence, newest=self._sequence)
            return
        before = len(self._records)
        while self._records and self._records[0].sequence <= sequence:
            self._records.popleft()
        if len(self._records) < before:
            try:
                self._rewrite()
            except OSError as error:
                _log.error("exit_records_not_compacted", path=str(self._path), error=str(error))

    def after(self, sequence: int) -> list[Exit]:
        """The records beyond `sequence`, oldest first."""
        return [record for record in self._records if record.sequence > sequence]

    def find(self, run: str, incarnation: int) -> Exit | None:
        """The record of one incarnation, if it is kept."""
        for record in self._records:
            if (record.run, record.incarnation) == (run, incarnation):
                return record
        return None

    async def wait_beyond(self, sequence: int) -> None:
        """Wait until there is a record beyond `sequence`."""
        while self._sequence <= sequence:
            await self._changed.wait()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _rewrite(self) -> None:
        self._on_disk = False
        lines = [_line({"sequence": self._sequence})]
        lines += [_line(dataclasses.asdict(record)) for record in self._records]
        write_durably(self._path, b"".join(lines))
        self._on_disk = True

    def _load(self) -> None:
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            data = b""
        for line in data.splitlines():
            try:
                entry = json.loads(line)
                if "run" in entry:
                    record = Exit(**entry)
                    self._records.append(record)
                    self._sequence = max(self._sequence, record.sequence)
                else:
                    self._sequence = max(self._sequence, int(entry["sequence"]))
            except (ValueError, TypeError, KeyError) as error:
                _log.warning("exit_record_unreadable", path=str(self._path), error=str(error))
        self._rewrite()


def _line(entry: dict[str, object]) -> bytes:
    return json.dumps(entry, ensure_ascii=True).encode() + b"\n"
