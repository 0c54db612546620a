"""GetPolicy, SetPolicy, SimulatePolicy, InjectFault over a real socket."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2

from trainerd.v1 import control_pb2, fault_pb2, inject_pb2
from unit.daemon.house import House, house, play, short_directory, spec
from unit.daemon.statuses import details, refused

CODE = grpc.StatusCode


@pytest.fixture
def root() -> Iterator[Path]:
    with short_directory() as path:
        yield path


def crashes(limit: int) -> fault_pb2.Policy:
    return fault_pb2.Policy(crash=fault_pb2.FaultRule(limit=limit))


async def get(at: House, run: str) -> control_pb2.GetPolicyResponse:
    return await at.control.GetPolicy(control_pb2.GetPolicyRequest(run=run))


async def put(at: House, run: str, **fields: Any) -> control_pb2.SetPolicyResponse:
    return await at.control.SetPolicy(control_pb2.SetPolicyRequest(run=run, **fields))


async def kinds_of_change(at: House, run: str) -> list[str]:
    changes = ("policy_changed", "policy_trial_ended", "injection_requested")
    return [kind for kind in await at.kinds(run) if kind in changes]


def test_a_change_counts_at_once_and_for_every_process_to_come(root: Path) -> None:
    async def scene() -> None:
        async with house(root) as at:
            run = await at.submit()
            trainer = await at.training(run)
            before = await get(at, run)
            answer = await put(at, run, policy=crashes(7))
            order = await trainer.order("set_policy")
            at.launcher.exit(run, 1, exit_code=-1, signal=9)
            await at.launcher.until(lambda fake: (run, 2) in fake.live)
            assignment = at.launcher.assignment(run, 2)
            shown = await at.get(run)

            assert (before.version, before.policy.crash.limit) == (0, 20)
            assert (answer.version, answer.policy.crash.limit) == (1, 7)
            # What was not named stays as it was.
            expected = fault_pb2.Policy()
            expected.CopyFrom(before.policy)
            expected.crash.limit = 7
            assert answer.policy == expected
            assert (order.set_policy.version, order.set_policy.policy) == (1, expected)
            assert (assignment.policy_version, assignment.spec.policy) == (1, expected)
            assert shown.policy_version == 1
            assert shown.spec.policy.crash.limit == 20
        async with house(root) as at:
            assert (await get(at, run)).policy == expected

    play(scene)


def test_a_change_that_changes_nothing_is_not_journalled(root: Path) -> None:
    async def scene() -> None:
        async with house(root) as at:
            run = await at.submit()
            same = await put(at, run, policy=crashes(20))
            first = await put(at, run, policy=crashes(3))
            again = await put(at, run, policy=crashes(3))
            none = await put(at, run, end_dry_run=True)

            assert [each.version for each in (same, first, again, none)] == [0, 1, 1, 1]
            assert await kinds_of_change(at, run) == ["policy_changed"]

    play(scene)


def test_what_may_be_without_a_value_is_unset_by_zero(root: Path) -> None:
    async def scene() -> None:
        async with house(root) as at:
            run = await at.submit()
            plain = (await get(at, run)).policy
            trainer = await at.training(run)
            given = fault_pb2.Policy(loss_spike_z=5, hang_floor_s=7)
            await put(at, run, policy=given)
            assert (await trainer.order("set_policy")).set_policy.policy.loss_spike_z == 5
            unset = fault_pb2.Policy(loss_spike_z=0, hang_floor_s=0)
            answer = await put(at, run, policy=unset)

            assert answer.policy == plain
            assert not (await trainer.order("set_policy")).set_policy.policy.HasField(
                "loss_spike_z"
            )
            again = await put(at, run, policy=unset)
            assert again.version == answer.version == 2
            for name in ("loss_spike_z", "backoff_max_s"):
                odd = fault_pb2.Policy(**{name: -1.0 if name == "loss_spike_z" else 0.0})
                call = at.control.SetPolicy(control_pb2.SetPolicyRequest(run=run, policy=odd))
                await refused(call, CODE.INVALID_ARGUMENT, "INVALID_POLICY")

    play(scene)


def test_a_trial_is_beside_the_policy_and_ends(root: Path) -> None:
    async def scene() -> None:
        async with house(root) as at:
            run = await at.submit()
            trainer = await at.training(run)
            tried = await put(at, run, policy=crashes(0), dry_run=True)
            again = await put(at, run, policy=crashes(0), dry_run=True)
            at.launcher.exit(run, 1, exit_code=3)
            await at.until(run, lambda now: now.restarts)
            made = [each.decision_made for each in await at.events(run)]
            made = [each for each in made if each.HasField("decision")]
            ended = await put(at, run, end_dry_run=True)

            assert (tried.version, tried.policy.crash.limit, tried.trial.crash.limit) == (0, 20, 0)
            assert again == tried
            decided = {each.trial: each.decision.action for each in made}
            assert decided == {False: fault_pb2.ACTION_RESTART, True: fault_pb2.ACTION_FAIL}
            assert (await at.get(run)).restarts == 1
            assert not ended.HasField("trial")
            assert await kinds_of_change(at, run) == ["policy_changed", "policy_trial_ended"]
            assert trainer.orders.empty()

    play(scene)


def test_impossible_policies_are_refused_with_their_fields(root: Path) -> None:
    async def scene() -> None:
        async with house(root) as at:
            run = await at.submit()
            bad = fault_pb2.Policy(backoff_s=-1, rollback_steps=0)
            bad.crash.action = fault_pb2.ACTION_MASK
            for call in (
                at.control.SetPolicy(control_pb2.SetPolicyRequest(run=run, policy=bad)),
                at.control.SimulatePolicy(control_pb2.SimulatePolicyRequest(run=run, policy=bad)),
            ):
                error = await refused(call, CODE.INVALID_ARGUMENT, "INVALID_POLICY")
                violations = details(error, error_details_pb2.BadRequest).field_violations
                assert [each.field for each in violations] == [
                    "policy.backoff_s",
                    "policy.rollback_steps",
                    "policy.crash.action",
                ]
            both = control_pb2.SetPolicyRequest(run=run, policy=crashes(1), end_dry_run=True)
            await refused(at.control.SetPolicy(both), CODE.INVALID_ARGUMENT, "BAD_POLICY_CHANGE")
            assert await kinds_of_change(at, run) == []

    play(scene)


def test_an_ended_run_keeps_its_policy_and_can_still_be_asked(root: Path) -> None:
    async def scene() -> None:
        async with house(root, injection=True) as at:
            run = await at.submit()
            await at.training(run)
            at.launcher.exit(run, 1, exit_code=3)
            await at.until(run, lambda now: now.restarts)
            await at.control.StopRun(control_pb2.StopRunRequest(run=run, no_checkpoint=True))
            for call in (
                at.control.SetPolicy(control_pb2.SetPolicyRequest(run=run, policy=crashes(1))),
                at.control.InjectFault(
                    control_pb2.InjectFaultRequest(
                        run=run,
                        injection=inject_pb2.Injection(fault=inject_pb2.INJECTED_FAULT_HANG),
                    )
                ),
            ):
                error = await refused(call, CODE.FAILED_PRECONDITION, "REFUSED_IN_THIS_STATE")
                assert "has ended: it is stopped" in str(error.details())
            asked = control_pb2.SimulatePolicyRequest(run=run, policy=crashes(0))
            simulated = await at.control.SimulatePolicy(asked)
            made = [each for each in await at.events(run) if each.HasField("decision_made")]

            assert (await get(at, run)).policy.crash.limit == 20
            (row,) = simulated.decisions
            assert (row.sequence, row.time) == (made[0].sequence, made[0].time)
            assert row.fault == made[0].decision_made.fault
            assert row.decision.action == fault_pb2.ACTION_RESTART
            assert row.simulated.action == fault_pb2.ACTION_FAIL
            assert simulated.left_out == 0

    play(scene)


def hang(**fields: Any) -> inject_pb2.Injection:
    return inject_pb2.Injection(fault=inject_pb2.INJECTED_FAULT_HANG, **fields)


def test_faults_on_purpose_are_refused_unless_the_daemon_allows_them(root: Path) -> None:
    async def scene() -> None:
        async with house(root) as at:
            run = await at.submit()
            wanted = spec("drill")
            wanted.inject.faults.add().CopyFrom(hang(step=3))
            asked = control_pb2.InjectFaultRequest(run=run, injection=hang())
            for call in (
                at.control.InjectFault(asked),
                at.control.SubmitRun(
                    control_pb2.SubmitRunRequest(spec=wanted, skip_program_check=True)
                ),
            ):
                error = await refused(call, CODE.FAILED_PRECONDITION, "INJECTION_NOT_ALLOWED")
                assert "allowed = true under [injection]" in str(error.details())
            checked = control_pb2.CheckRunRequest(spec=wanted, skip_program=True)
            (problem,) = (await at.control.CheckRun(checked)).problems
            assert (problem.field, "[injection]" in problem.suggestion) == ("inject", True)
            # A table that asks for nothing is no reason.
            checked.spec.inject.ClearField("faults")
            assert not (await at.control.CheckRun(checked)).problems

    play(scene)


def test_an_injection_is_told_and_survives_its_process(root: Path) -> None:
    async def scene() -> None:
        async with house(root, injection=True) as at:
            wanted = spec("drill")
            wanted.inject.faults.add().CopyFrom(hang(step=50))
            request = control_pb2.SubmitRunRequest(spec=wanted, skip_program_check=True)
            run = (await at.control.SubmitRun(request)).run.id
            trainer = await at.training(run)
            asked = control_pb2.InjectFaultRequest(
                run=run[:7], injection=inject_pb2.Injection(fault="INJECTED_FAULT_NAN", times=2)
            )
            answer = await at.control.InjectFault(asked)
            order = await trainer.order("inject")
            first = at.launcher.assignment(run, 1)
            await trainer.report(
                fault_injected={"injection": 1, "step": 50, "batch": 50, "fault": 7}
            )
            await trainer.report(
                fault_injected={"injection": 2, "step": 51, "batch": 51, "fault": 2}
            )
            await trainer.until_acknowledged()
            at.launcher.exit(run, 1, exit_code=-1, signal=9)
            await at.launcher.until(lambda fake: (run, 2) in fake.live)
            second = at.launcher.assignment(run, 2)

            assert answer.number == 2
            assert (order.inject.number, order.inject.injection.times) == (2, 2)
            # The next step, whichever that is.
            assert order.inject.injection.step == 1
            assert [each.number for each in first.injections] == [1]
            assert first.injections[0].injection == hang(step=50)
            # The first has happened as often as it may.
            (left,) = second.injections
            assert (left.number, list(left.batches)) == (2, [51])

    play(scene)


def test_an_impossible_injection_is_refused_with_its_fields(root: Path) -> None:
    async def scene() -> None:
        async with house(root, injection=True) as at:
            run = await at.submit()
            bad = hang(step=1, probability=0.5, slots=[1])
            error = await refused(
                at.control.InjectFault(control_pb2.InjectFaultRequest(run=run, injection=bad)),
                CODE.INVALID_ARGUMENT,
                "INVALID_INJECTION",
            )
            violations = details(error, error_details_pb2.BadRequest).field_violations
            told = [each.field for each in violations]
            assert told == ["injection.probability", "injection.slots"]

    play(scene)
