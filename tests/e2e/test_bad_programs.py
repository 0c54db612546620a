"""A user's mistakes: refused at submit where that can be known, else FAILED with the traceback."""

from __future__ import annotations

from pathlib import Path

import pytest

from e2e.host import Host
from trainerd.clients import InvalidRun
from trainerd.v1 import fault_pb2, run_pb2

pytestmark = pytest.mark.e2e


def _problems(host: Host, spec: run_pb2.RunSpec) -> dict[str, str]:
    with pytest.raises(InvalidRun) as caught:
        host.submit(spec, check=True)
    problems = caught.value.problems
    return {problem.field: f"{problem.message} {problem.detail}" for problem in problems}


def test_every_problem_of_the_specification_and_of_the_program_is_named_at_once(
    shared: Host,
) -> None:
    spec = shared.spec("bad", program="missing_module", steps=0)
    spec.train.microbatch = 5
    spec.checkpoint.keep = 0
    problems = _problems(shared, spec)
    assert set(problems) == {"train.steps", "train.microbatch", "checkpoint.keep", "entry"}
    assert "missing_module" in problems["entry"]


def test_a_function_that_raises_is_refused_with_the_users_traceback(shared: Host) -> None:
    problems = _problems(shared, shared.spec("raises", args={"raise_in_build": True}))
    (text,) = problems.values()
    assert "the data set is not where it should be" in text
    assert "tiny.py" in text
    assert "trainerd/actors" not in text


def test_shapes_that_do_not_fit_are_refused(shared: Host) -> None:
    problems = _problems(shared, shared.spec("shapes", args={"bad_shapes": True}))
    assert any("dot_general" in text for text in problems.values())


def test_an_unknown_argument_is_refused_by_name(shared: Host) -> None:
    problems = _problems(shared, shared.spec("argument", args={"widht": 4}))
    assert any("widht" in field + text for field, text in problems.items())


def test_a_checkpoint_directory_that_cannot_be_written_is_refused(shared: Host) -> None:
    spec = shared.spec("nowhere")
    spec.checkpoint.directory = "/proc/self/nowhere"
    assert "checkpoint.directory" in _problems(shared, spec)


def test_what_only_the_trainer_can_know_ends_the_run_with_class_traceback_and_advice(
    shared: Host,
) -> None:
    run = shared.submit(shared.spec("late", args={"bad_shapes": True}))
    failed = shared.failed(run)
    assert getattr(failed.last_fault, "class") == fault_pb2.FAULT_CLASS_STEP_EXCEPTION
    assert "tiny.py" in failed.last_fault.detail
    assert "do not resubmit" in failed.reason
    assert failed.restarts == 0
    shared.completed(shared.submit(shared.spec("next", steps=20)))


def test_an_exception_after_good_steps_restarts_once_and_fails_when_it_comes_again(
    shared: Host,
) -> None:
    spec = shared.spec("again", steps=100, every_steps=10, evaluate_every_steps=30)
    spec.args["evaluate_raises_at"].int_value = 2
    failed = shared.failed(shared.submit(spec))
    assert failed.restarts == 1
    assert "twice" in failed.reason
    assert "KeyError" in failed.last_fault.message + failed.last_fault.detail


def test_a_program_that_ends_its_process_is_restarted_from_the_newest_checkpoint(
    shared: Host, tmp_path: Path
) -> None:
    expected = shared.completed(
        shared.submit(shared.spec("stays", steps=100, evaluate_every_steps=40))
    )
    spec = shared.spec("leaves", steps=100, every_steps=20, evaluate_every_steps=40)
    # Its third evaluation, after step 80, ends the first process, and only that.
    spec.args["exit_once"].string_value = str(tmp_path / "left")
    done = shared.completed(shared.submit(spec))
    assert done.restarts == 1
    assert done.result.state_digest == expected.result.state_digest


@pytest.mark.parametrize(
    ("argument", "fault_class"),
    [
        ("nan_index", fault_pb2.FAULT_CLASS_NON_FINITE_MICROBATCH),
        ("raise_index", fault_pb2.FAULT_CLASS_DATA_ERROR),
    ],
)
def test_bad_data_is_left_out_counted_and_survives_a_kill(
    shared: Host, argument: str, fault_class: int
) -> None:
    spec = shared.spec("left-out", steps=40, every_steps=10, args={argument: 7})
    spec.policy.non_finite_microbatch.limit = 100
    spec.policy.data_error.limit = 100
    done = shared.completed(shared.submit(spec))
    decisions = [event.decision_made for event in shared.events(done.id, "decision_made")]
    assert decisions
    assert {getattr(made.fault, "class") for made in decisions} == {fault_class}
    assert done.result.skipped_batches + done.result.masked_slots == len(decisions)


def test_a_relative_checkpoint_directory_is_refused_by_the_daemon(
    shared: Host, tmp_path: Path
) -> None:
    spec = shared.spec("relative")
    spec.checkpoint.directory = "checkpoints"
    assert "absolute" in _problems(shared, spec)["checkpoint.directory"]
    spec.checkpoint.directory = str(tmp_path / "kept")
    done = shared.completed(shared.submit(spec, check=True))
    assert Path(done.result.checkpoint).is_relative_to(tmp_path / "kept")
