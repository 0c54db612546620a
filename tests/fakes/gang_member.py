"""One member of a gang, for tests: trains what it is told, and says what came of it.

`python gang_member.py <process_id> <process_count> <address>`, and then a line of JSON for each run
on standard input; a line of JSON for each on standard output. An empty line ends it.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np

from fakes import training
from trainerd.actors import Controls, Plan, run_loop
from trainerd.actors.batch_files import NoEvidence
from trainerd.actors.gang import Gang, Joining
from trainerd.actors.recovery import Recovery
from trainerd.actors.reports import FinishReason, Phase, StepRecord
from trainerd.actors.rules import Rule, Rulebook, Rules

Told = dict[str, Any]


def main() -> None:
    process_id, process_count, address = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    joining = None
    if process_count > 1:
        joining = Joining(
            Gang(
                coordinator_address=address,
                process_id=process_id,
                process_count=process_count,
                collective_timeout_s=float(os.environ.get("COLLECTIVE_TIMEOUT_S", "60")),
                barrier_timeout_s=300,
                own_address="127.0.0.1",
            )
        )
    for line in sys.stdin:
        told = json.loads(line)
        if not told:
            break
        print(json.dumps(trained(process_id, joining, told)), flush=True)
    sys.stdout.flush()
    os._exit(0)


def trained(process_id: int, joining: Joining | None, told: Told) -> Told:
    """`told` for all members alike, but for what stands under `only` and their number."""
    told = {**told, **told.get("only", {}).get(str(process_id), {})}
    controls, rulebook = Controls(), Rulebook()
    stop_at, pause_at, save_at = told.get("stop_at"), told.get("pause_at"), told.get("save_at")
    snapshots = told.get("snapshots")
    memory = Path(snapshots.format(process_id)) if snapshots else None

    def on_step(record: StepRecord) -> None:
        if record.step == training.ROOM_AT and memory and stop_at:
            training.wait_for_room(memory)
        if record.step == stop_at:
            controls.stop(FinishReason.PREEMPTED, save=told.get("stop_saves", True))
        if record.step == save_at:
            controls.save("asked")
        if record.step == pause_at:
            controls.pause()
        if record.step == told.get("masks_until"):
            # As a daemon's order, which comes to one process only.
            skips = Rule(action=training.Verdict.SKIP, limit=99, window_s=600.0)
            rulebook.change(Rules(version=1, non_finite_microbatch=skips))
        if record.step == told.get("say_at"):
            print(json.dumps({"at": record.step}), flush=True)

    spoil: dict[int, Any] = {index: OSError("disk") for index in told.get("broken", ())}
    spoil |= {index: "nan" for index in told.get("nan", ())}
    data = training.Data(spoil=spoil)
    verdict = training.Verdict(told.get("verdict", "skip"))
    recorder = training.Recorder(
        on_step=on_step, verdict=lambda fault: verdict, rollback_steps=told.get("back", 0)
    )
    heard = recorder._note

    def note(what: str, value: Any) -> None:
        heard(what, value)
        if what == "entered" and value[0] is Phase.PAUSED:
            controls.resume()

    recorder._note = note  # type: ignore[method-assign]
    rules = {
        name: Rule(**{**rule, "action": training.Verdict(rule["action"])})
        for name, rule in told.get("rules", {}).items()
    }
    if memory:
        memory.mkdir(mode=0o700, parents=True, exist_ok=True)
    executables = told.get("executables")
    result = run_loop(
        training.program(data=data, **program_parts(told)),
        Plan(**told["plan"], **rules),
        checkpoint_directory=Path(told["checkpoints"]),
        reporter=recorder,
        controls=controls,
        rulebook=rulebook,
        evidence=NoEvidence(),
        recovery=Recovery(
            snapshot_directory=memory,
            snapshot_bytes=1 << 24,
            executable_directory=Path(executables) if executables else None,
        ),
        joining=joining,
    )
    return {
        "reason": result.reason.value,
        "step": result.step,
        "digest": result.state_digest,
        "durable": result.durable,
        "durable_step": result.durable_step,
        "masked": result.masked_slots,
        "skipped": result.skipped_batches,
        "losses": [record.loss for record in recorder.steps if record.applied],
        "reads": data.reads,
        "restored": [[step, source] for step, _, source in recorder.all("restored")],
        "faults": [fault.fault_class.value for fault in recorder.faults],
        "messages": [fault.message for fault in recorder.faults],
        "asked": [fault.message for fault in recorder.all("decide")],
        "asked_classes": [fault.fault_class.value for fault in recorder.all("decide")],
        "saved": [record.step for record in recorder.all("saved")],
        "save_ids": [list(record.request_ids) for record in recorder.all("saved")],
        "rolled_back": [record.step for record in recorder.all("rolled_back")],
        "paused": len(recorder.all("paused")),
        "evaluated": [metrics["norm"] for _, metrics in recorder.all("evaluated")],
        "processes": jax.process_count(),
    }


def program_parts(told: Told) -> Told:
    # A schedule of optax changes what it holds when it is traced: another program to who looks.
    parts: Told = {"optimizer": training.optimizer()}
    if told.get("weighed"):
        parts["weight"] = lambda slot: float(1 + np.abs(slot["x"]).sum() // 1)
    if told.get("wide"):
        parts["init"] = training.wide_init
        parts["evaluate"] = measured
    return parts


def measured(params: Any) -> Told:
    return {"norm": float(np.sqrt(np.square(np.asarray(params["a"])).sum()))}


if __name__ == "__main__":
    main()
