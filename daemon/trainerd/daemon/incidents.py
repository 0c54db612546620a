"""What the daemon knows of an incident when it happens: from the decision and from telemetry."""

from __future__ import annotations

from trainerd.daemon import codec
from trainerd.daemon.supervision.commands import WriteIncident
from trainerd.daemon.supervision.state import State
from trainerd.daemon.telemetry import Telemetry
from trainerd.daemon.views import Views
from trainerd.v1 import event_pb2, incident_pb2, launcher_pb2

MAX_TEXT_BYTES = 16 * 1024
"""Longest text of a fault in an incident; of a traceback its end says most."""


def request_of(
    command: WriteIncident, state: State, views: Views, telemetry: Telemetry, *, wall: float
) -> launcher_pb2.WriteIncidentRequest:
    """The incident at wall time `wall` (seconds since the epoch), with the evidence there is."""
    pulse = telemetry.of(command.run)
    run = state.runs.get(command.run)
    decided = event_pb2.DecisionMade()
    codec.fill(decided.fault, command.fault)
    codec.fill(decided.decision, command.decision)
    durable_step, checkpoint = views.checkpoint(command.run)
    incident = incident_pb2.Incident(
        number=command.number,
        run=command.run,
        incarnation=command.incarnation,
        host=pulse.host,
        fault=decided.fault,
        decision=decided.decision,
        step=max(pulse.step, command.fault.step),
        durable_step=durable_step,
        checkpoint=checkpoint,
        ledger=views.ledger(command.run, without=decided.fault),
        slots=run.slots if run is not None else 0,
        slot_parts=run.slot_parts if run is not None else 0,
        versions=pulse.versions,
    )
    incident.time.FromNanoseconds(int(wall * 1e9))
    for name in ("message", "suggestion", "detail"):
        text = getattr(incident.fault, name).encode()
        setattr(incident.fault, name, text[-MAX_TEXT_BYTES:].decode(errors="ignore"))
    evidence = incident_pb2.IncidentEvidence(last_steps=pulse.last_steps, stacks=command.stacks)
    evidence.memory.resident_bytes = pulse.resident_bytes
    evidence.memory.device_bytes = pulse.device_bytes
    return launcher_pb2.WriteIncidentRequest(incident=incident, evidence=evidence)
