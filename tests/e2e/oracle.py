"""What a run's final state must be: trains it undisturbed, with its ledger from the start.

A process of its own, in the environment the launcher gives a trainer: one device, as many threads.
Reads one JSON object from standard input, writes `{"digest": …}` to standard output.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from trainerd.v1 import event_pb2, fault_pb2, run_pb2

DEADLINE_S = 90.0
LEFT_OUT = {fault_pb2.ACTION_MASK: "mask", fault_pb2.ACTION_SKIP: "skip"}
Entry = dict[str, object]


def ledger(events: Iterable[event_pb2.Event]) -> list[Entry]:
    """What a run's journal says was left out."""
    entries = []
    for event in events:
        match event.WhichOneof("payload"):
            case "fault_raised" if event.fault_raised.fault.delegated in LEFT_OUT:
                entries.append(_entry(event.fault_raised.fault, event.fault_raised.fault.delegated))
            case "decision_made" if (
                event.decision_made.decision.action == fault_pb2.ACTION_SKIP
                and event.decision_made.fault.batch >= 0
                and not event.decision_made.fault.delegated
            ):
                entries.append(_entry(event.decision_made.fault, fault_pb2.ACTION_SKIP))
            case "rolled_back":
                back = event.rolled_back
                entries.append(
                    {
                        "first_batch": back.first_batch,
                        "last_batch": back.last_batch,
                        "slots": [],
                        "class": _class(getattr(back, "class")),
                        "decision": "skip",
                    }
                )
    return entries


def digest(spec: run_pb2.RunSpec, entries: Sequence[Entry]) -> str:
    """The digest of the state at the end of an undisturbed run with this ledger."""
    # Not of the process that this starts.
    from e2e.host import Host

    asked = {
        "spec": spec.SerializeToString().hex(),
        "ledger": list(entries),
        "compiled": str(Host.compiled / "executables") if Host.compiled else "",
    }
    environment = {
        name: value for name, value in os.environ.items() if name not in ("XLA_FLAGS", "PYTHONPATH")
    }
    done = subprocess.run(
        [sys.executable, __file__],
        input=json.dumps(asked),
        env=environment | {"JAX_PLATFORMS": "cpu", "PYTHONWARNINGS": "default"},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return str(json.loads(done.stdout.splitlines()[-1])["digest"])


def _entry(fault: fault_pb2.Fault, action: fault_pb2.Action) -> Entry:
    return {
        "first_batch": fault.batch,
        "last_batch": fault.batch,
        "slots": list(fault.slots) if action == fault_pb2.ACTION_MASK else [],
        "class": _class(getattr(fault, "class")),
        "decision": LEFT_OUT[action],
    }


def _class(number: fault_pb2.FaultClass) -> str:
    return fault_pb2.FaultClass.Name(number).removeprefix("FAULT_CLASS_").lower()


def _main() -> None:
    from trainerd.actors.ledger import Entry as LedgerEntry
    from trainerd.actors.program import load_entry
    from trainerd.actors.program_loop import run_loop
    from trainerd.actors.recovery import Recovery
    from trainerd.actors.trainer.plans import build_plan
    from trainerd.actors.trainer.values import arguments

    asked = json.load(sys.stdin)
    spec = run_pb2.RunSpec.FromString(bytes.fromhex(asked["spec"]))
    entries = [
        LedgerEntry.from_json({**entry, "slots": entry["slots"] or None})
        for entry in asked["ledger"]
    ]
    sys.path[:0] = spec.trainer.path
    with tempfile.TemporaryDirectory() as folder:
        result = run_loop(
            load_entry(spec.entry, arguments(spec.args)),
            build_plan(spec),
            checkpoint_directory=Path(folder),
            ledger=entries,
            recovery=Recovery(
                executable_directory=Path(asked["compiled"]) if asked["compiled"] else None
            ),
        )
    assert result.step == spec.train.steps, result
    print(json.dumps({"digest": result.state_digest}))


if __name__ == "__main__":
    _main()
