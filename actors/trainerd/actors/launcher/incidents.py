"""A run's incidents on disk: a directory each, whole or absent, the newest of them kept."""

from __future__ import annotations

import shutil
from pathlib import Path

import structlog
from google.protobuf.json_format import MessageToJson, Parse, ParseError
from google.protobuf.message import Message

from trainerd.actors.launcher import pins
from trainerd.actors.launcher.files import write_durably
from trainerd.actors.launcher.logs import read_part
from trainerd.actors.launcher.runs import RunFiles
from trainerd.v1 import incident_pb2

KEEP = 50
"""Incidents of a run that are kept; older ones go."""
MAX_BYTES = 1024 * 1024
"""Most bytes of one incident."""
MAX_BATCH_BYTES = 1024 * 1024
"""Most bytes of a batch that is kept with an incident."""
KEEP_PINS = 3
"""Checkpoints of a run that are pinned; the newest incidents have them."""
LOG_TAIL_BYTES = 64 * 1024

INCIDENT, STACKS, LOG_TAIL = "incident.json", "stacks.txt", "log_tail.txt"
BATCH = "batch.npz"
LAST_STEPS, MEMORY = "last_steps.json", "memory.json"

_log = structlog.get_logger("trainerd.launcher")


class NoIncident(Exception):
    """There is no incident of this number, or it cannot be read; the message says which."""


def write(
    files: RunFiles, incident: incident_pb2.Incident, evidence: incident_pb2.IncidentEvidence
) -> None:
    """Keep an incident; one that is kept already stays as it is.

    Its checkpoint is pinned, and named by where its pin lies: by nothing if it cannot be pinned,
    and later if the pins of newer incidents are enough. The trainer's copy of the batch goes with
    it. Raise OSError if it cannot be written (nothing of it is left then) or the run's directory is
    gone, ValueError if it is too big.
    """
    number = incident.number
    log_tail = _log_tail(files.log(incident.incarnation))
    place = files.incidents / str(number)
    if place.exists():
        return
    contents = {
        INCIDENT: _json(incident),
        LAST_STEPS: _json(incident_pb2.IncidentEvidence(last_steps=evidence.last_steps)),
        MEMORY: _json(evidence.memory),
        STACKS: evidence.stacks.encode(),
        LOG_TAIL: log_tail.encode(),
    }
    size = sum(len(data) for data in contents.values())
    if size > MAX_BYTES:
        raise ValueError(f"an incident must have at most {MAX_BYTES} bytes, got {size}")
    if not files.root.is_dir():
        raise FileNotFoundError(f"{files.root} is gone")
    files.incidents.mkdir(mode=0o700, exist_ok=True)
    pinned = _pinned(incident)
    contents[INCIDENT] = _json(pinned)
    scratch = files.incidents / f".{number}.new"
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        scratch.mkdir(mode=0o700)
        for name, data in contents.items():
            if data:
                (scratch / name).write_bytes(data)
        _add_batch(files.batch(incident.fault.batch), scratch / BATCH)
        scratch.rename(place)
        _drop(files.batch(incident.fault.batch))
    except OSError:
        shutil.rmtree(scratch, ignore_errors=True)
        if pinned.checkpoint:
            pins.unpin(Path(pinned.checkpoint))
        raise
    kept = numbers(files)
    for old in kept[:-KEEP]:
        _unpin(files.incidents / str(old))
        shutil.rmtree(files.incidents / str(old), ignore_errors=True)
    _unpin_all_but_newest(files, kept[-KEEP:])


def remove_pins(files: RunFiles) -> None:
    """Remove the pins of all incidents; these then name no checkpoint."""
    for number in numbers(files):
        _unpin(files.incidents / str(number))


def numbers(files: RunFiles) -> list[int]:
    """The numbers of the incidents that are kept, rising."""
    if not files.incidents.is_dir():
        return []
    return sorted(int(path.name) for path in files.incidents.iterdir() if path.name.isdecimal())


def read_all(files: RunFiles) -> list[incident_pb2.Incident]:
    """Every incident that can be read, oldest first."""
    found = []
    for number in numbers(files):
        try:
            found.append(_incident(files.incidents / str(number)))
        except NoIncident as error:
            _log.warning("incident_unreadable", error=str(error))
    return found


def read(
    files: RunFiles, number: int
) -> tuple[incident_pb2.Incident, incident_pb2.IncidentEvidence, Path]:
    """One incident (0: the newest), its evidence, its directory. Raise `NoIncident`."""
    kept = numbers(files)
    wanted = number or (kept[-1] if kept else 0)
    if wanted not in kept:
        raise NoIncident(_missing(number, kept))
    place = files.incidents / str(wanted)
    evidence = incident_pb2.IncidentEvidence(
        stacks=_text(place / STACKS), log_tail=_text(place / LOG_TAIL)
    )
    incident = _incident(place)
    for name, message in ((LAST_STEPS, evidence), (MEMORY, evidence.memory)):
        if (place / name).exists():
            _parse(place / name, message)
    return incident, evidence, place


def _pinned(incident: incident_pb2.Incident) -> incident_pb2.Incident:
    """The incident with its checkpoint pinned, or with none."""
    kept = incident_pb2.Incident()
    kept.CopyFrom(incident)
    if incident.checkpoint:
        try:
            kept.checkpoint = str(
                pins.pin(Path(incident.checkpoint), f"{incident.run}-{incident.number}")
            )
        except pins.NotPinned as error:
            _log.warning("checkpoint_not_pinned", run=incident.run, error=str(error))
            kept.checkpoint = ""
    return kept


def _unpin_all_but_newest(files: RunFiles, kept: list[int]) -> None:
    pinned = 0
    for number in reversed(kept):
        place = files.incidents / str(number)
        try:
            pinned += bool(_incident(place).checkpoint)
        except NoIncident:
            continue
        if pinned > KEEP_PINS:
            _unpin(place)


def _unpin(place: Path) -> None:
    """Let an incident name no checkpoint any more, and remove its pin."""
    try:
        incident = _incident(place)
    except NoIncident:
        return
    if not incident.checkpoint:
        return
    pinned = Path(incident.checkpoint)
    incident.checkpoint = ""
    try:
        write_durably(place / INCIDENT, _json(incident))
    except OSError as error:
        _log.warning("incident_not_rewritten", place=str(place), error=str(error))
    pins.unpin(pinned)


def _add_batch(batch: Path, place: Path) -> None:
    """Keep the trainer's copy of a batch, if there is one and it is small."""
    try:
        if batch.stat().st_size <= MAX_BATCH_BYTES:
            shutil.copyfile(batch, place)
    except FileNotFoundError:
        return


def _drop(batch: Path) -> None:
    """The incident has it, or it is too large for one."""
    try:
        batch.unlink(missing_ok=True)
    except OSError as error:
        _log.warning("batch_not_removed", path=str(batch), error=str(error))


def _missing(number: int, kept: list[int]) -> str:
    if not kept:
        return "the run has no incident"
    return f"there is no incident {number}; kept are {kept[0]} to {kept[-1]}"


def _incident(place: Path) -> incident_pb2.Incident:
    incident = incident_pb2.Incident()
    _parse(place / INCIDENT, incident)
    return incident


def _parse(path: Path, message: Message) -> None:
    try:
        Parse(path.read_bytes()[:MAX_BYTES], message, ignore_unknown_fields=True)
    except (OSError, ParseError, UnicodeDecodeError) as error:
        raise NoIncident(f"{path} cannot be read: {error}") from error


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()[:MAX_BYTES]
    except OSError:
        return ""
    return data.decode("utf-8", errors="replace")


def _log_tail(log: Path) -> str:
    try:
        data = read_part(log, offset=-LOG_TAIL_BYTES, max_bytes=LOG_TAIL_BYTES).data
    except OSError:
        return ""
    return data.decode("utf-8", errors="replace")


def _json(message: Message) -> bytes:
    return MessageToJson(message, ensure_ascii=False).encode() + b"\n"
