"""A fault storm: every injectable fault, drawn from a seed, one run after the other on one host.

Each run must end as its policy says. One that completes must have the state that its ledger
predicts; what the supervisor decided must be what its policy decides about the recorded faults.
Runs whose memory is made to run out change their arithmetic on the way: only their end is judged.
"""

from __future__ import annotations

import dataclasses
import random
import time
from collections import Counter

from e2e import oracle
from e2e.host import Host, host
from trainerd.v1 import event_pb2, fault_pb2, inject_pb2, run_pb2

STEPS = 300
EVERY = 20
MEAN_STEPS = 40.0
RUN_S = 300.0
_ENDED = (run_pb2.RUN_STATE_COMPLETED, run_pb2.RUN_STATE_FAILED, run_pb2.RUN_STATE_STOPPED)
_MEMORY = inject_pb2.INJECTED_FAULT_OUT_OF_MEMORY
FAULTS = [
    number
    for number in inject_pb2.InjectedFault.values()
    if number != inject_pb2.INJECTED_FAULT_UNSPECIFIED
]
QUICK = [
    inject_pb2.INJECTED_FAULT_EXCEPTION,
    inject_pb2.INJECTED_FAULT_NAN,
    inject_pb2.INJECTED_FAULT_LOSS_SPIKE,
    inject_pb2.INJECTED_FAULT_DATA_ERROR,
    inject_pb2.INJECTED_FAULT_SIGKILL,
    inject_pb2.INJECTED_FAULT_SLOW_STEP,
]
"""What costs no more than a restart: for a short sample."""


@dataclasses.dataclass(kw_only=True)
class Tally:
    """What a storm has shown."""

    runs: int = 0
    completed: int = 0
    failed: int = 0
    exact: int = 0
    restarts: int = 0
    rollbacks: int = 0
    faults: Counter[str] = dataclasses.field(default_factory=Counter)
    violations: list[str] = dataclasses.field(default_factory=list)

    def __str__(self) -> str:
        faults = ", ".join(f"{name} {count}" for name, count in sorted(self.faults.items()))
        return (
            f"{self.runs} runs: {self.completed} completed ({self.exact} digests as predicted), "
            f"{self.failed} failed by policy; {self.restarts} restarts, {self.rollbacks} "
            f"rollbacks; {faults}"
        )


def storm(*, seed: int, minutes: float) -> Tally:
    """Run after run until the time is over."""
    tally, drawn = Tally(), random.Random(seed)
    until_s = time.monotonic() + 60 * minutes
    with host(injection=True) as made:
        while time.monotonic() < until_s:
            # Every other run without the one fault that changes the arithmetic.
            faults = FAULTS if tally.runs % 2 else [each for each in FAULTS if each != _MEMORY]
            one(made, tally, seed=drawn.randrange(2**31), faults=faults)
    return tally


def one(
    made: Host,
    tally: Tally,
    *,
    seed: int,
    faults: list[inject_pb2.InjectedFault],
    steps: int = STEPS,
) -> None:
    """One run through its faults, and the judgement of it."""
    spec = made.spec(f"storm-{tally.runs}", steps=steps, every_steps=EVERY)
    spec.inject.schedule.faults.extend(faults)
    spec.inject.schedule.mean_steps, spec.inject.schedule.seed = MEAN_STEPS, seed
    spec.policy.loss_spike_z = 50.0
    spec.policy.backoff_max_s = 0.5
    spec.policy.hang_floor_s, spec.policy.hang_factor = 5.0, 6.0
    run = made.submit(spec)
    done = _ended(made, run)
    with made.client() as client:
        events = [response.event for response in client.list_events(run)]
        again = client.simulate_policy(run, fault_pb2.Policy())
    tally.runs += 1
    tally.restarts += done.restarts
    tally.rollbacks += done.rollbacks
    for event in events:
        if event.HasField("fault_injected"):
            name = inject_pb2.InjectedFault.Name(event.fault_injected.fault)
            tally.faults[name.removeprefix("INJECTED_FAULT_").lower()] += 1
    where = f"run {run} (seed {seed})"
    tally.violations += [
        f"{where}: decided {each.decision.reason!r}, its own policy says {each.simulated.reason!r}"
        for each in again.decisions
        if each.decision.action != each.simulated.action
    ]
    if done.state == run_pb2.RUN_STATE_FAILED:
        tally.failed += 1
        if not _fails_by_policy(events):
            tally.violations.append(f"{where}: FAILED without a decision: {done.reason}")
    elif done.state == run_pb2.RUN_STATE_COMPLETED:
        tally.completed += 1
        if done.slot_parts == 0:
            expected = oracle.digest(spec, oracle.ledger(events))
            tally.exact += done.result.state_digest == expected
            if done.result.state_digest != expected:
                tally.violations.append(f"{where}: its digest is not what its ledger predicts")
    else:
        tally.violations.append(f"{where}: {run_pb2.RunState.Name(done.state)}: {done.reason}")


def _ended(made: Host, run: str) -> run_pb2.Run:
    deadline_s = time.monotonic() + RUN_S
    while True:
        now = made.run(run)
        if now.state in _ENDED or time.monotonic() > deadline_s:
            return now
        time.sleep(0.05)


def _fails_by_policy(events: list[event_pb2.Event]) -> bool:
    decided = [event.decision_made for event in events if event.HasField("decision_made")]
    return bool(decided) and decided[-1].decision.action == fault_pb2.ACTION_FAIL
