"""Every row of the fault matrix that one host can show, with real processes.

A fault is made to happen; what is checked is the action, its exactness, the events, the metric, and
that there is an incident where the run's course changed.
"""

from __future__ import annotations

import collections
import dataclasses
import itertools
import zipfile
from collections.abc import Iterator

import pytest

from e2e import oracle
from e2e.host import Host, eventually, host
from trainerd.clients import Refused
from trainerd.v1 import event_pb2, fault_pb2, inject_pb2, run_pb2

pytestmark = pytest.mark.e2e

STEPS = 120
EVERY = 20
AT = 70
"""The step of most faults: behind the save of step 60."""

_A, _F, _I = fault_pb2, fault_pb2, inject_pb2


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """A fault, and what is to come of it. `actions`: the supervisor's decisions, in order.

    `bursts`: each mild one stands for a few, because a step that is in flight when another one is
    decided on may be spoilt as well, and reported before or behind the decision, or not at all.
    `batches`: the batch that it was about is kept with each incident.
    """

    id: str
    injections: tuple[inject_pb2.Injection, ...]
    fault_class: fault_pb2.FaultClass
    actions: tuple[fault_pb2.Action, ...]
    policy: fault_pb2.Policy = dataclasses.field(default_factory=fault_pb2.Policy)
    restarts: int = 0
    rollbacks: int = 0
    bursts: bool = False
    fails: str = ""
    exact: bool = True
    batches: bool = False


def _at(fault: inject_pb2.InjectedFault, step: int = AT, **more: object) -> inject_pb2.Injection:
    return inject_pb2.Injection(fault=fault, step=step, **more)


HASTY = fault_pb2.Policy(hang_floor_s=5.0, hang_factor=6.0)
ROWS = [
    Row(
        id="F1-one-slot-is-masked",
        injections=(_at(_I.INJECTED_FAULT_NAN, slots=[1]),),
        fault_class=_F.FAULT_CLASS_NON_FINITE_MICROBATCH,
        actions=(_A.ACTION_MASK,),
    ),
    Row(
        id="F2-a-step-is-skipped",
        injections=(_at(_I.INJECTED_FAULT_NAN),),
        fault_class=_F.FAULT_CLASS_NON_FINITE_STEP,
        actions=(_A.ACTION_SKIP,),
    ),
    Row(
        id="F2-three-in-a-row-roll-back",
        injections=(_at(_I.INJECTED_FAULT_NAN, times=3),),
        fault_class=_F.FAULT_CLASS_NON_FINITE_STEP,
        actions=(_A.ACTION_SKIP, _A.ACTION_SKIP, _A.ACTION_ROLLBACK),
        rollbacks=1,
        batches=True,
    ),
    Row(
        id="F2-again-after-a-rollback-fails",
        injections=(_at(_I.INJECTED_FAULT_NAN, times=12),),
        fault_class=_F.FAULT_CLASS_NON_FINITE_STEP,
        actions=(_A.ACTION_SKIP, _A.ACTION_ROLLBACK, _A.ACTION_SKIP, _A.ACTION_FAIL),
        bursts=True,
        rollbacks=1,
        fails="rolled back",
    ),
    Row(
        id="F3-a-spike-is-skipped",
        injections=(_at(_I.INJECTED_FAULT_LOSS_SPIKE),),
        policy=fault_pb2.Policy(loss_spike_z=50.0),
        fault_class=_F.FAULT_CLASS_LOSS_SPIKE,
        actions=(_A.ACTION_SKIP,),
    ),
    Row(
        id="F4-a-batch-that-cannot-be-read-is-skipped",
        injections=(_at(_I.INJECTED_FAULT_DATA_ERROR),),
        fault_class=_F.FAULT_CLASS_DATA_ERROR,
        actions=(_A.ACTION_SKIP,),
    ),
    Row(
        id="F5-before-the-first-good-step-fails",
        injections=(_at(_I.INJECTED_FAULT_EXCEPTION, step=1),),
        fault_class=_F.FAULT_CLASS_STEP_EXCEPTION,
        actions=(_A.ACTION_FAIL,),
        fails="do not resubmit",
    ),
    Row(
        id="F5-later-restarts",
        injections=(_at(_I.INJECTED_FAULT_EXCEPTION),),
        batches=True,
        fault_class=_F.FAULT_CLASS_STEP_EXCEPTION,
        actions=(_A.ACTION_RESTART,),
        restarts=1,
    ),
    Row(
        id="F5-continue-on-error-skips",
        injections=(_at(_I.INJECTED_FAULT_EXCEPTION),),
        policy=fault_pb2.Policy(continue_on_error=True),
        fault_class=_F.FAULT_CLASS_STEP_EXCEPTION,
        actions=(_A.ACTION_SKIP,),
    ),
    Row(
        id="F6-out-of-memory-halves-the-slots",
        injections=(_at(_I.INJECTED_FAULT_OUT_OF_MEMORY),),
        fault_class=_F.FAULT_CLASS_DEVICE_OOM,
        actions=(_A.ACTION_RESTART,),
        restarts=1,
        exact=False,
    ),
    Row(
        id="F7-a-device-that-fails-restarts",
        injections=(_at(_I.INJECTED_FAULT_DEVICE_ERROR),),
        fault_class=_F.FAULT_CLASS_DEVICE_ERROR,
        actions=(_A.ACTION_RESTART,),
        restarts=1,
    ),
    Row(
        id="F8-killed",
        injections=(_at(_I.INJECTED_FAULT_SIGKILL),),
        fault_class=_F.FAULT_CLASS_CRASH,
        actions=(_A.ACTION_RESTART,),
        restarts=1,
    ),
    Row(
        id="F8-segmentation-fault",
        injections=(_at(_I.INJECTED_FAULT_SEGFAULT),),
        fault_class=_F.FAULT_CLASS_CRASH,
        actions=(_A.ACTION_RESTART,),
        restarts=1,
    ),
    Row(
        id="F8-an-exit-code",
        injections=(_at(_I.INJECTED_FAULT_EXIT, exit_code=9),),
        fault_class=_F.FAULT_CLASS_CRASH,
        actions=(_A.ACTION_RESTART,),
        restarts=1,
    ),
    Row(
        id="F9-asleep",
        injections=(_at(_I.INJECTED_FAULT_HANG),),
        policy=HASTY,
        fault_class=_F.FAULT_CLASS_HANG,
        actions=(_A.ACTION_RESTART,),
        restarts=1,
    ),
    Row(
        id="F9-asleep-with-the-lock",
        injections=(_at(_I.INJECTED_FAULT_HANG_GIL),),
        policy=HASTY,
        fault_class=_F.FAULT_CLASS_HANG,
        actions=(_A.ACTION_RESTART,),
        restarts=1,
    ),
    Row(
        id="F9-frozen",
        injections=(_at(_I.INJECTED_FAULT_SIGSTOP),),
        policy=HASTY,
        fault_class=_F.FAULT_CLASS_HANG,
        actions=(_A.ACTION_RESTART,),
        restarts=1,
    ),
]
STUCK = Row(
    id="F16-no-progress-fails",
    injections=(_at(_I.INJECTED_FAULT_SIGKILL, step=5, times=10),),
    policy=fault_pb2.Policy(backoff_s=0.0),
    fault_class=_F.FAULT_CLASS_CRASH,
    actions=(_A.ACTION_RESTART,) * 3 + (_A.ACTION_FAIL,),
    restarts=3,
    fails="no_progress",
)
"""Kills before the first checkpoint, where nothing else could be restored."""
MILD = {_A.ACTION_CONTINUE, _A.ACTION_MASK, _A.ACTION_SKIP}


@pytest.fixture(scope="module", name="drilled")
def _drilled() -> Iterator[Host]:
    with host(injection=True, standby=False) as made:
        yield made


@pytest.fixture(scope="module", name="undisturbed")
def _undisturbed(drilled: Host) -> str:
    spec = drilled.spec("undisturbed", steps=STEPS, every_steps=EVERY)
    run = drilled.completed(drilled.submit(spec))
    assert oracle.digest(spec, []) == run.result.state_digest
    return run.result.state_digest


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_a_fault_has_its_action_its_exactness_its_events_its_metric_and_its_incident(
    drilled: Host, undisturbed: str, row: Row
) -> None:
    _drill(drilled, undisturbed, row)


def test_restarts_that_recover_nothing_come_to_an_end() -> None:
    with host(injection=True, snapshots=False, standby=False) as made:
        _drill(made, "", STUCK)


def _drill(drilled: Host, undisturbed: str, row: Row) -> None:
    spec = drilled.spec(row.id.lower()[:30].rstrip("-"), steps=STEPS, every_steps=EVERY)
    spec.inject.faults.extend(row.injections)
    spec.policy.CopyFrom(row.policy)
    run = drilled.submit(spec)
    done = drilled.failed(run) if row.fails else drilled.completed(run)
    events = _events(drilled, run)

    decided = [event.decision_made for event in events if event.HasField("decision_made")]
    classes = {getattr(each.fault, "class") for each in decided}
    assert classes == {row.fault_class}
    actions = [each.decision.action for each in decided]
    if row.bursts:
        in_order = [action for action, _ in itertools.groupby(actions)]
        assert tuple(in_order[: len(row.actions)]) == row.actions
        assert set(in_order[len(row.actions) :]) <= MILD
        # Two go by before the third is asked about, each time; one more may be in flight.
        assert actions[:3] == [_A.ACTION_SKIP, _A.ACTION_SKIP, _A.ACTION_ROLLBACK]
        assert actions.index(_A.ACTION_FAIL) - 3 in (2, 3)
    else:
        assert tuple(actions) == row.actions
    assert all(each.decision.reason for each in decided)
    assert row.fails in done.reason
    assert (done.restarts, done.rollbacks) == (row.restarts, row.rollbacks)

    injected = [event.fault_injected for event in events if event.HasField("fault_injected")]
    assert len(injected) == len({each.batch for each in injected})
    assert len(injected) - len(decided) in range(2 if row.bursts else 1)

    if row.exact and not row.fails:
        left_out = oracle.ledger(events)
        expected = oracle.digest(spec, left_out) if left_out else undisturbed
        assert done.result.state_digest == expected

    counted = drilled.faults(run)
    assert counted == collections.Counter(
        (kind, action) for kind, action, _ in drilled.decided(run)
    )

    severe = [action for action in row.actions if action not in MILD]
    with drilled.client() as client:
        # They are written beside the run's course, which does not wait for them.
        eventually(
            "every incident is kept",
            lambda: len(client.list_incidents(run).incidents) >= len(severe),
        )
        incidents = client.list_incidents(run).incidents
        assert client.explain_run(run).run.id == run
    assert [incident.decision.action for incident in incidents] == severe
    if row.fault_class == _F.FAULT_CLASS_DEVICE_OOM:
        assert done.slot_parts == 2
    if row.batches:
        # The batch that was asked about is with each of them, and nowhere else.
        files = drilled.folder / "launcher" / "runs" / run
        kept = [files / "incidents" / str(each.number) / "batch.npz" for each in incidents]
        assert [place.exists() for place in kept] == [True] * len(severe)
        with zipfile.ZipFile(kept[0]) as arrays:
            assert "weights.npy" in arrays.namelist()
        assert list((files / "evidence").iterdir()) == []


def _events(drilled: Host, run: str) -> list[event_pb2.Event]:
    with drilled.client() as client:
        return [response.event for response in client.list_events(run)]


def test_injection_is_refused_unless_the_operator_allows_it(shared: Host) -> None:
    spec = shared.spec("forbidden", steps=5)
    spec.inject.faults.append(_at(_I.INJECTED_FAULT_NAN, step=2))
    with pytest.raises(Refused, match="injection"):
        shared.submit(spec)
    assert not [run for run in _runs(shared) if run.spec.name == "forbidden"]


def _runs(shared: Host) -> list[run_pb2.Run]:
    with shared.client() as client:
        return list(client.list_runs().runs)
