"""An incident as text."""

from __future__ import annotations

from collections.abc import Sequence

from trainerd.clients.sentences import class_word, decision_text, fault_sentence
from trainerd.clients.wording import (
    date_and_clock,
    duration,
    figure,
    one_line,
    printable,
    size,
    word,
)
from trainerd.v1 import control_pb2, fault_pb2, incident_pb2

LOG_LINES = 40
MOST_ENTRIES = 12
STEP_LINES = 10


def incident_line(incident: incident_pb2.Incident) -> str:
    """Number, time, class, action, step, message in one line."""
    action = word(fault_pb2.Action, "ACTION_", incident.decision.action)
    return (
        f"{incident.number:>4}  {date_and_clock(incident.time)}  "
        f"{class_word(incident.fault)} → {action} at step {incident.step:,}: "
        f"{one_line(incident.fault.message)}"
    )


def incident_text(answer: control_pb2.GetIncidentResponse) -> list[str]:
    """What happened, what was done, and the evidence: its end where it is long."""
    incident, evidence = answer.incident, answer.evidence
    durable = f"step {incident.durable_step:,}" if incident.durable_step >= 0 else "none"
    versions = ", ".join(f"{name} {text}" for name, text in sorted(incident.versions.items()))
    rows = [
        ("incident", f"{incident.number} of {incident.run}"),
        ("time", date_and_clock(incident.time)),
        ("trainer", f"incarnation {incident.incarnation} on {incident.host or 'this host'}"),
        ("fault", fault_sentence(incident.fault)),
        ("what to do", incident.fault.suggestion),
        ("decision", decision_text(incident.decision)),
        ("step", f"{incident.step:,}, durable: {durable}"),
        ("checkpoint", incident.checkpoint),
        ("left out", ledger_text(incident.ledger)),
        ("memory", _memory(evidence.memory)),
        ("versions", versions),
        ("files", answer.directory),
    ]
    lines = [f"{label:<12}{one_line(text)}" for label, text in rows if text]
    lines += _section("evidence", printable(incident.fault.detail).rstrip().splitlines())
    lines += _section("last steps", [_step(each) for each in evidence.last_steps[-STEP_LINES:]])
    lines += _section("stacks", printable(evidence.stacks).rstrip().splitlines())
    return lines + _section("log", printable(evidence.log_tail).rstrip().splitlines()[-LOG_LINES:])


def replay_text(answer: control_pb2.ReplayRunIncidentResponse) -> list[str]:
    """Whether the fault happened again, and what was trained to see that."""
    incident = answer.incident
    again = "the fault happened again" if answer.happened else "the fault did not happen again"
    batch = f" at batch {incident.fault.batch:,}" if incident.fault.batch >= 0 else ""
    began = "a new state" if answer.source == "init" else answer.source
    rows = [
        ("incident", f"{incident.number} of {incident.run}"),
        ("fault", fault_sentence(incident.fault)),
        ("replayed", f"steps {answer.first_step:,} to {answer.last_step:,}, from {began}"),
    ]
    if answer.HasField("fault"):
        rows.append(("it was" if answer.happened else "instead", fault_sentence(answer.fault)))
    headline = f"{again}{batch if answer.happened else ''}"
    return [headline, *(f"{label:<12}{one_line(text)}" for label, text in rows)]


def _section(heading: str, lines: list[str]) -> list[str]:
    return ["", f"{heading}:", *(f"  {line}" for line in lines)] if lines else []


def ledger_text(entries: Sequence[incident_pb2.LedgerEntry]) -> str:
    """What was left out, such as `batches 3 to 7 (data_error), slot 1 of batch 9 (…)`."""
    parts = [_left_out(entry) for entry in entries[:MOST_ENTRIES]]
    if len(entries) > MOST_ENTRIES:
        parts.append(f"{len(entries) - MOST_ENTRIES:,} more")
    return ", ".join(parts)


def _left_out(entry: incident_pb2.LedgerEntry) -> str:
    batches = f"batch {entry.first_batch:,}"
    if entry.last_batch > entry.first_batch:
        batches = f"batches {entry.first_batch:,} to {entry.last_batch:,}"
    if entry.slots:
        slots = ", ".join(str(slot) for slot in entry.slots)
        batches = f"{'slot' if len(entry.slots) == 1 else 'slots'} {slots} of {batches}"
    return f"{batches} ({entry.fault_class})"


def _memory(memory: incident_pb2.MemoryUse) -> str:
    if not memory.resident_bytes:
        return ""
    device = f", {size(memory.device_bytes)} on the device" if memory.device_bytes else ""
    return f"{size(memory.resident_bytes)} resident{device}"


def _step(sample: incident_pb2.StepSample) -> str:
    return (
        f"step {sample.step:,}: loss {figure(sample.loss)}, "
        f"gradient norm {figure(sample.gradient_norm)}, {duration(sample.duration_s)}"
    )
