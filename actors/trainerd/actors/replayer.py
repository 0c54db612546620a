"""`python -m trainerd.actors.replayer INCIDENT.json LAUNCHER_PID`: does a fault happen again?

Started by the launcher in the user's Python. Reads a serialised ReplayIncidentRequest from standard
input and writes a serialised ReplayIncidentResponse to standard output; what the user's code prints
goes to standard error. Ends with the launcher.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

from google.protobuf.json_format import Parse

from trainerd.actors.trainer import birth
from trainerd.v1 import fault_pb2, incident_pb2, launcher_pb2


def main() -> None:
    """Replay one incident and exit."""
    # Before anything heavy is imported: a launcher that dies meanwhile takes this process along.
    birth.die_with_launcher()
    path, launcher_pid = Path(sys.argv[1]), int(sys.argv[2])
    request = launcher_pb2.ReplayIncidentRequest.FromString(birth.read_assignment())
    if not birth.launcher_lives(launcher_pid):
        sys.exit("the launcher is gone already")
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(message)s")
    incident = Parse(path.read_bytes(), incident_pb2.Incident(), ignore_unknown_fields=True)

    from trainerd.actors.answering import answer_alone  # noqa: PLC0415

    with answer_alone() as answer:
        answer.write(replay_incident(request, incident).SerializeToString())
    sys.stderr.flush()
    # A library may have left a thread behind that never ends.
    os._exit(0)


def replay_incident(
    request: launcher_pb2.ReplayIncidentRequest, incident: incident_pb2.Incident
) -> launcher_pb2.ReplayIncidentResponse:
    """Replay an incident whose fault happened at a batch.

    An error of the user's program, wherever it comes, is the fault that the replay ended with.
    """
    # Imports jax.
    from trainerd.actors.errors import TrainingError  # noqa: PLC0415
    from trainerd.actors.faults import classify  # noqa: PLC0415
    from trainerd.actors.program import load_entry  # noqa: PLC0415
    from trainerd.actors.replaying import Past, Replay, replay  # noqa: PLC0415
    from trainerd.actors.reports import FaultClass, Phase  # noqa: PLC0415
    from trainerd.actors.trainer.messages import fault_to_proto  # noqa: PLC0415
    from trainerd.actors.trainer.plans import build_plan, ledger_entries  # noqa: PLC0415
    from trainerd.actors.trainer.values import arguments  # noqa: PLC0415

    spec, fault = request.spec, incident.fault
    name = fault_pb2.FaultClass.Name(getattr(fault, "class"))
    past = Past(
        fault_class=FaultClass(name.removeprefix("FAULT_CLASS_").lower()),
        batch=fault.batch,
        left_out=tuple(ledger_entries(incident.ledger)),
        checkpoint=Path(incident.checkpoint) if incident.checkpoint else None,
    )
    sys.path[:0] = spec.trainer.path
    try:
        plan = build_plan(
            spec, run=request.run, slots=incident.slots, slot_parts=incident.slot_parts
        )
        showed = replay(
            load_entry(spec.entry, arguments(spec.args)),
            plan,
            past,
            directories=[Path(place) for place in request.restore_directories],
        )
    except TrainingError as error:
        told = classify(error, phase=Phase.INIT, step=0, state_intact=False)
        showed = Replay(happened=False, fault=told, source="", first_step=0, last_step=0)
    response = launcher_pb2.ReplayIncidentResponse(
        number=incident.number,
        happened=showed.happened,
        source=showed.source,
        first_step=showed.first_step,
        last_step=showed.last_step,
        batch=fault.batch,
    )
    if showed.fault is not None:
        response.fault.CopyFrom(fault_to_proto(showed.fault, awaits_decision=False))
    return response


if __name__ == "__main__":
    main()
