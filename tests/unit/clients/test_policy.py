"""`trainerctl policy`, `policy simulate`, `inject` and `replay`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from trainerd.v1 import control_pb2 as api
from trainerd.v1 import fault_pb2, incident_pb2, inject_pb2
from unit.clients.ended import Ended
from unit.clients.fake_control import FakeControl, refuse_invalid

Ctl = Callable[..., Ended]


def a_policy(limit: int = 20, **fields: Any) -> fault_pb2.Policy:
    policy = fault_pb2.Policy(**{"rollback_steps": 20, "hang_factor": 10.0, **fields})
    policy.crash.CopyFrom(
        fault_pb2.FaultRule(
            action=fault_pb2.ACTION_RESTART,
            limit=limit,
            window_s=600,
            then=fault_pb2.ACTION_FAIL,
            consecutive=3,
        )
    )
    return policy


def decision(action: fault_pb2.Action, reason: str = "why") -> fault_pb2.Decision:
    return fault_pb2.Decision(action=action, scope="run", reason=reason)


def a_fault(step: int = 12, batch: int = 14) -> fault_pb2.Fault:
    return fault_pb2.Fault(
        **{"class": fault_pb2.FAULT_CLASS_CRASH}, message="it broke", step=step, batch=batch
    )


def test_the_policy_is_shown_rule_by_rule(fake: FakeControl, ctl: Ctl) -> None:
    trial = a_policy(limit=5)
    fake.answer("GetPolicy", api.GetPolicyResponse(policy=a_policy(), version=2, trial=trial))
    ended = ctl("policy", "demo", "--address", fake.address)

    assert (ended.code, ended.err) == (0, "")
    lines = ended.out.splitlines()
    assert lines[0] == "policy: version 2"
    crash = next(line for line in lines if line.startswith("crash "))
    assert crash.endswith("restart; more than 20 in 10 min 00 s: fail; 3 in a row: fail")
    assert any(line.split() == ["rollback_steps", "20"] for line in lines)
    assert lines[-2:] == ["on trial:", "  crash.limit: 20 → 5"]
    document = ctl("policy", "demo", "--address", fake.address, "--json").document
    assert document["policy"]["crash"]["limit"] == 20


def test_settings_become_a_policy_and_what_changes_is_said(fake: FakeControl, ctl: Ctl) -> None:
    fake.answer("GetPolicy", api.GetPolicyResponse(policy=a_policy()))
    changed = a_policy(limit=5, continue_on_error=True)
    fake.answer("SetPolicy", api.SetPolicyResponse(policy=changed, version=1))
    ended = ctl(
        *("policy", "demo", "--address", fake.address),
        *("--set", "crash.limit=5", "policy.hang.then=rollback", "continue_on_error=true"),
        *("--set", 'data_error.action="skip"', "backoff_s=2"),
    )

    assert (ended.code, ended.err) == (0, "")
    (sent,) = fake.requests["SetPolicy"]
    assert (sent.run, sent.dry_run, sent.end_dry_run) == ("demo", False, False)
    wanted = fault_pb2.Policy(continue_on_error=True, backoff_s=2)
    wanted.crash.limit = 5
    wanted.hang.then = fault_pb2.ACTION_ROLLBACK
    wanted.data_error.action = fault_pb2.ACTION_SKIP
    assert sent.policy == wanted
    assert ended.out.splitlines() == [
        "demo: policy version 1",
        "  continue_on_error: not set → true",
        "  crash.limit: 20 → 5",
    ]


def test_what_was_set_can_be_switched_off(fake: FakeControl, ctl: Ctl) -> None:
    fake.answer("GetPolicy", api.GetPolicyResponse(policy=a_policy(loss_spike_z=50.0)))
    fake.answer("SetPolicy", api.SetPolicyResponse(policy=a_policy(), version=1))
    changes = ("--set", "loss_spike_z=off", "policy.hang_floor_s=off")
    ended = ctl("policy", "demo", "--address", fake.address, *changes)

    assert (ended.code, ended.err) == (0, "")
    (sent,) = fake.requests["SetPolicy"]
    assert sent.policy == fault_pb2.Policy(loss_spike_z=0, hang_floor_s=0)
    assert sent.policy.HasField("loss_spike_z")
    assert sent.policy.HasField("hang_floor_s")
    assert ended.out.splitlines() == ["demo: policy version 1", "  loss_spike_z: 50 → not set"]


def test_a_trial_begins_and_ends(fake: FakeControl, ctl: Ctl) -> None:
    fake.answer("GetPolicy", api.GetPolicyResponse(policy=a_policy(), trial=a_policy(limit=5)))
    trial = a_policy(limit=5)
    fake.answer("SetPolicy", api.SetPolicyResponse(policy=a_policy(), trial=trial))
    begun = ctl(
        *("policy", "demo", "--set", "crash.limit=5", "--dry-run", "on"),
        *("--address", fake.address),
    )
    ended = ctl("policy", "demo", "--dry-run", "off", "--address", fake.address)

    assert begun.out.splitlines() == ["demo: on trial", "  crash.limit: 20 → 5"]
    assert ended.out == "demo: the trial is over\n"
    first, second = fake.requests["SetPolicy"]
    assert (first.dry_run, first.end_dry_run) == (True, False)
    assert (second.dry_run, second.end_dry_run, second.HasField("policy")) == (False, True, False)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (["demo", "--set", "crsh.limit=5"], "policy.crsh is not known; did you mean policy.crash?"),
        (["demo", "--set", "crash.limt=5"], "did you mean policy.crash.limit?"),
        (["demo", "--set", "crash.then=fial"], 'got "fial"; did you mean "fail"?'),
        (["demo", "--set", "backoff_s=soon"], 'must be a number, got the string "soon"'),
        (["demo", "--set", "backoff_s=off"], 'must be a number, got the string "off"'),
        (["demo", "--set", "backoff_s"], "--set must be KEY=VALUE, got 'backoff_s'"),
        (["demo", "--set", "crash.limit=1", "crash.limit=2"], "crash.limit is set twice"),
        (["demo", "--set", "crash.limit=1", "crash=2"], "crash is set twice, or is a table"),
        (["demo", "--dry-run", "on"], "--dry-run on needs --set"),
        (["demo", "--dry-run", "off", "--set", "backoff_s=1"], "cannot be given together"),
        (["demo", "--policy", "f.toml"], "--policy is for 'policy simulate"),
        (["simulate", "demo"], "needs --policy FILE"),
        (["simulate", "demo", "x"], "expected 'policy RUN' or 'policy simulate RUN'"),
        (["demo", "other"], "expected 'policy RUN' or 'policy simulate RUN'"),
        (["simulate", "demo", "--policy", "f", "--dry-run", "on"], "changes nothing"),
    ],
)
def test_a_mistake_is_told_before_anybody_is_asked(ctl: Ctl, line: list[str], message: str) -> None:
    ended = ctl("policy", *line)

    assert ended.code == 2
    assert message in ended.err


def test_what_the_daemon_refuses_is_bad_input(fake: FakeControl, ctl: Ctl) -> None:
    fake.answer("GetPolicy", api.GetPolicyResponse(policy=a_policy()))
    problem = api.Problem(field="policy.backoff_s", message="policy.backoff_s must be ≥ 0, got -1")
    fake.answers["SetPolicy"] = lambda request, context: refuse_invalid(context, problem)
    ended = ctl("policy", "demo", "--set", "backoff_s=-1", "--address", fake.address, "--json")

    assert ended.code == 2
    assert [each["field"] for each in ended.error["problems"]] == ["policy.backoff_s"]


def simulated(fake: FakeControl) -> None:
    time = Timestamp(seconds=1_700_000_000)
    rows = [
        api.SimulatedDecision(
            sequence=number,
            time=time,
            fault=a_fault(),
            decision=decision(fault_pb2.ACTION_RESTART),
            simulated=decision(action, "crash 2 in 600 s, limit 1"),
        )
        for number, action in enumerate([fault_pb2.ACTION_RESTART, fault_pb2.ACTION_FAIL], 7)
    ]
    fake.answer("SimulatePolicy", api.SimulatePolicyResponse(decisions=rows, left_out=1200))


def test_a_simulation_marks_the_faults_that_differ(
    fake: FakeControl, ctl: Ctl, tmp_path: Path
) -> None:
    file = tmp_path / "policy.toml"
    file.write_text("[policy.crash]\nlimit = 1\n")
    simulated(fake)
    ended = ctl("policy", "simulate", "demo", "--policy", str(file), "--address", fake.address)

    assert (ended.code, ended.err) == (0, "")
    heading, same, other, older, verdict = ended.out.splitlines()
    assert heading.split() == ["WHEN", "FAULT", "DECIDED", "WOULD", "BE"]
    assert same.startswith("   20")
    assert same.endswith("crash at step 12, batch 14  restart  restart")
    assert other.startswith("*  20")
    assert other.endswith("restart  fail the run: crash 2 in 600 s, limit 1")
    assert older == "1,200 older decisions not shown"
    assert verdict == "1 of 2 decisions would differ (*)"
    (sent,) = fake.requests["SimulatePolicy"]
    assert sent.policy.crash.limit == 1
    assert len(sent.policy.ListFields()) == 1


def test_a_whole_run_file_is_as_good_and_its_mistakes_have_lines(
    fake: FakeControl, ctl: Ctl, tmp_path: Path
) -> None:
    fake.answer("SimulatePolicy", api.SimulatePolicyResponse())
    good, bad, none = (tmp_path / name for name in ("good.toml", "bad.toml", "none.toml"))
    good.write_text('name = "x"\n[policy]\nbackoff_s = 3\n')
    bad.write_text("[policy]\nbackoff_s = 3\n[policy.crash]\nlimt = 3\n")
    none.write_text("[train]\nsteps = 3\n")

    def simulate(file: Path) -> Ended:
        address = ("--address", fake.address)
        return ctl("policy", "simulate", "demo", "--policy", str(file), *address)

    assert simulate(good).out == "no faults: there was nothing to decide\n"
    refused = simulate(bad)
    assert refused.code == 2
    assert f"{bad}:4: policy.crash.limt is not known" in refused.err
    assert "has no table [policy]" in simulate(none).err
    problem = api.Problem(field="policy.backoff_s", message="policy.backoff_s must be less")
    fake.answers["SimulatePolicy"] = lambda request, context: refuse_invalid(context, problem)
    assert f"{good}:3: policy.backoff_s must be less" in simulate(good).err


def test_an_injection_is_sent_as_it_was_given(fake: FakeControl, ctl: Ctl) -> None:
    fake.answer("InjectFault", api.InjectFaultResponse(number=4))
    ended = ctl(
        *("inject", "demo", "nan", "--step", "50", "--slots", "0,2", "--times", "3"),
        *("--address", fake.address),
    )
    slow = ctl(
        *("inject", "demo", "slow_step", "--probability", "0.5", "--seconds", "2"),
        *("--address", fake.address, "--json"),
    )
    ctl("inject", "demo", "exit", "--exit-code", "7", "--address", fake.address)

    assert (ended.code, ended.err) == (0, "")
    assert ended.out == ("injection 4 of demo: nan in slots 0, 2 at step 50, at most 3 times\n")
    assert slow.document == {"number": "4"}
    nan, slow_step, end = (each.injection for each in fake.requests["InjectFault"])
    assert nan == inject_pb2.Injection(
        fault=inject_pb2.INJECTED_FAULT_NAN, step=50, slots=[0, 2], times=3
    )
    assert (slow_step.probability, slow_step.seconds) == (0.5, 2.0)
    assert (end.fault, end.exit_code, end.step) == (inject_pb2.INJECTED_FAULT_EXIT, 7, 0)


def test_a_daemon_that_does_not_allow_it_is_exit_4(fake: FakeControl, ctl: Ctl) -> None:
    text = "not allowed: set allowed = true under [injection]"
    fake.refuse("InjectFault", grpc.StatusCode.FAILED_PRECONDITION, text)
    ended = ctl("inject", "demo", "hang", "--address", fake.address)

    assert ended.code == 4
    assert text in ended.err


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (["hung"], 'got "hung"; did you mean "hang"?'),
        (["banana"], 'FAULT must be one of "exception", "nan"'),
        (["nan", "--step", "0"], "--step must be ≥ 1, got 0"),
        (["nan", "--step", "3", "--probability", "0.5"], "not allowed with argument"),
        (["nan", "--probability", "2"], "must be above 0 and at most 1, got '2'"),
        (["nan", "--slots", "a,b"], "must be slots such as 0,1, got 'a,b'"),
        (["nan", "--times", str(2**31)], "--times must fit in 32 bits"),
    ],
)
def test_an_injection_that_makes_no_sense_is_bad_input(
    ctl: Ctl, line: list[str], message: str
) -> None:
    ended = ctl("inject", "demo", *line)

    assert ended.code == 2
    assert message in ended.err


def test_a_replay_says_whether_it_happened_again(fake: FakeControl, ctl: Ctl) -> None:
    incident = incident_pb2.Incident(number=3, run="demo-1a2b", fault=a_fault())
    answer = api.ReplayRunIncidentResponse(
        incident=incident,
        happened=True,
        fault=a_fault(),
        source="/c/10",
        first_step=10,
        last_step=12,
    )
    fake.answer("ReplayRunIncident", answer)
    ended = ctl("replay", "demo", "3", "--cpu", "--address", fake.address)

    assert (ended.code, ended.err) == (0, "")
    lines = ended.out.splitlines()
    assert lines[0] == "the fault happened again at batch 14"
    assert "replayed    steps 10 to 12, from /c/10" in lines
    (sent,) = fake.requests["ReplayRunIncident"]
    assert (sent.run, sent.number, sent.cpu) == ("demo", 3, True)

    answer.happened, answer.source = False, "init"
    answer.ClearField("fault")
    fake.answer("ReplayRunIncident", answer)
    ended = ctl("replay", "demo", "--address", fake.address)
    assert ended.code == 0
    lines = ended.out.splitlines()
    assert lines[0] == "the fault did not happen again"
    assert lines[-1] == "replayed    steps 10 to 12, from a new state"
    document = ctl("replay", "demo", "--address", fake.address, "--json").document
    assert document["happened"] is False


@pytest.mark.parametrize(
    ("line", "near"), [(["polcy", "demo"], "policy"), (["policy", "r", "--dry-run", "onn"], "on")]
)
def test_a_word_that_is_nearly_right_gets_a_suggestion(
    ctl: Ctl, line: list[str], near: str
) -> None:
    ended = ctl(*line)

    assert ended.code == 2
    assert f"did you mean '{near}'?" in ended.err
