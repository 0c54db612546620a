"""A run's incidents on disk: a directory each, whole or absent, the newest of them kept."""

from __future__ import annotations

import shutil
from pathlib import Path

import structlog
from google.protobuf.json_format import MessageToJson, Parse, ParseError
from google.protobuf.message import Message

from trainerd.actors.launcher.logs import read_part
from trainerd.actors.launcher.runs import RunFiles
from trainerd.v1 import incident_pb2

KEEP = 50
"""Incidents of a run that are kept; older ones go."""
MAX_BYTES = 1024 * 1024
"""Most bytes of one incident."""
LOG_TAIL_BYTES = 64 * 1024

INCIDENT, STACKS, LOG_TAIL = "incident.json", "stacks.txt", "log_tail.txt"
LAST_STEPS, MEMORY = "last_steps.json", "memory.json"

_log = structlog.get_logger("trainerd.launcher")


class NoIncident(Exception):
    """There is no incident of this number, or it cannot be read; the message says which."""


def write(
    files: RunFiles, incident: incident_pb2.Incident, evidence: incident_pb2.IncidentEvidence
) -> None:
    """Keep an incident; one that is kept already stays as it is.

    Raise OSError if it cannot be written (nothing of it is left then) or the run's directory is
    gone, ValueError if it is too big.
    """
    number = incident.number
    log_tail = _log_tail(files.log(incident.incarnation))
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
    place = files.incidents / str(number)
    if place.exists():
        return
    scratch = files.incidents / f".{number}.new"
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        scratch.mkdir(mode=0o700)
        for name, data in contents.items():
            if data:
                (scratch / name).write_bytes(data)
        scratch.rename(place)
    except OSError:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    for old in numbers(files)[:-KEEP]:
        shutil.rmtree(files.incidents / str(old), ignore_errors=True)


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
