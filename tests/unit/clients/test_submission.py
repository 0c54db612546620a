"""check and submit: problems of client and daemon in one list."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from trainerd.v1 import control_pb2 as api
from unit.clients.ended import Ended
from unit.clients.fake_control import RUN_FILE, FakeControl, a_run, completed, refuse_invalid

Ctl = Callable[..., Ended]
Write = Callable[..., Path]

TWO_PROBLEMS = 'name = "demo"\nentry = "a:b"\n[train]\nsteps = "4"\nglobal_batch = 0\n'
FROM_DAEMON = [
    api.Problem(field="train.global_batch", message="train.global_batch must be ≥ 1, got 0"),
    api.Problem(field="train.steps", message="train.steps must be ≥ 1, got 0"),
    api.Problem(
        field="entry",
        message='there is no module "a"',
        suggestion="add its directory to trainer.path",
        detail="Traceback\n  x",
    ),
]


def expected(file: Path) -> str:
    return (
        f'{file}:2: there is no module "a"\n'
        "    add its directory to trainer.path\n"
        "    | Traceback\n"
        "    |   x\n"
        f'{file}:4: train.steps must be an integer, got the string "4"\n'
        "    write 4, without quotes\n"
        f"{file}:5: train.global_batch must be ≥ 1, got 0\n"
    )


def test_check_merges_the_problems_of_client_and_daemon_by_line(
    fake: FakeControl, ctl: Ctl, run_file: Write
) -> None:
    file = run_file(TWO_PROBLEMS)
    fake.answer("CheckRun", api.CheckRunResponse(problems=FROM_DAEMON))
    ended = ctl("check", str(file), "--address", fake.address)
    assert (ended.code, ended.out) == (2, expected(file))
    assert ended.err == f"trainerctl: {file}: 3 problems\n"
    assert not fake.requests["CheckRun"][0].skip_program
    document = ctl("check", str(file), "--address", fake.address, "--json").document
    assert [problem["field"] for problem in document["problems"]] == [
        "entry", "train.steps", "train.global_batch",
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["[args]\nwhen = 2030-01-31", "entry = 3", "[trainer]\nx = 1"])
def test_a_program_whose_own_keys_are_wrong_is_not_loaded(
    fake: FakeControl, ctl: Ctl, run_file: Write, text: str
) -> None:
    fake.answer("CheckRun", api.CheckRunResponse())
    assert ctl("check", str(run_file(text)), "--address", fake.address).code == 2
    assert fake.requests["CheckRun"][0].skip_program


def test_check_of_a_good_file(fake: FakeControl, ctl: Ctl, run_file: Write) -> None:
    fake.answer("CheckRun", api.CheckRunResponse())
    file = run_file()
    ended = ctl("check", str(file), "--no-program-check", "--address", fake.address)
    assert (ended.code, ended.out, ended.err) == (0, f"{file}: no problems found\n", "")
    assert fake.requests["CheckRun"][0].skip_program
    assert fake.requests["CheckRun"][0].spec.train.steps == 400
    document = ctl("check", str(file), "--address", fake.address, "--json").document
    assert document == {"problems": []}


def test_check_without_a_daemon_checks_the_syntax_and_says_so(ctl: Ctl, run_file: Write) -> None:
    ended = ctl("check", str(run_file()))
    assert ended.code == 0
    assert "only keys and types were checked" in ended.err
    file = run_file("[train]\nsteps = true")
    ended = ctl("check", str(file))
    assert ended.code == 2
    assert ended.out == f"{file}:2: train.steps must be an integer, got the boolean true\n"


@pytest.mark.parametrize("command", ["check", "submit", "run"])
def test_a_file_that_is_not_toml_costs_one_line(ctl: Ctl, run_file: Write, command: str) -> None:
    file = run_file("a = 1\nb = = 2\n")
    ended = ctl(command, str(file))
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == f"trainerctl: {file}:2:5: not valid TOML: Invalid value\n"
    ended = ctl(command, str(file), "--json")
    assert (ended.code, ended.error["kind"]) == (2, "bad_input")


@pytest.mark.parametrize("command", ["check", "submit", "run"])
def test_a_file_that_is_not_there_costs_one_line(ctl: Ctl, tmp_path: Path, command: str) -> None:
    ended = ctl(command, str(tmp_path / "none.toml"))
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == f"trainerctl: there is no run file {tmp_path}/none.toml\n"
    ended = ctl(command, str(tmp_path))
    assert (ended.code, ended.err.count("\n")) == (2, 1)


def test_submit_prints_the_id(fake: FakeControl, ctl: Ctl, run_file: Write) -> None:
    fake.answer("SubmitRun", api.SubmitRunResponse(run=a_run("queued")))
    ended = ctl("submit", str(run_file()), "--address", fake.address)
    assert (ended.code, ended.out, ended.err) == (0, "demo-1a2b\n", "")
    request = fake.requests["SubmitRun"][0]
    assert request.spec.entry == "trainerd.actors.examples.stdlib_lm:build"
    assert not request.skip_program_check
    ctl("submit", str(run_file()), "--address", fake.address, "--request-id", "r1",
        "--no-program-check")  # fmt: skip
    other = fake.requests["SubmitRun"][1]
    assert (other.request_id, other.skip_program_check) == ("r1", True)
    assert request.request_id not in ("", other.request_id)
    document = ctl("submit", str(run_file()), "--address", fake.address, "--json").document
    assert document["run"]["id"] == "demo-1a2b"


def test_submit_of_a_wrong_file_lists_everything_and_submits_nothing(
    fake: FakeControl, ctl: Ctl, run_file: Write
) -> None:
    file = run_file(TWO_PROBLEMS)
    fake.answer("CheckRun", api.CheckRunResponse(problems=FROM_DAEMON))
    ended = ctl("submit", str(file), "--address", fake.address)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == f"trainerctl: {file}: 3 problems\n{expected(file)}"
    assert fake.requests["SubmitRun"] == []


def test_submit_puts_lines_to_what_the_daemon_refuses(
    fake: FakeControl, ctl: Ctl, run_file: Write
) -> None:
    file = run_file(RUN_FILE.replace("400", "0"))
    problem = api.Problem(field="train.steps", message="train.steps must be ≥ 1, got 0")
    fake.answers["SubmitRun"] = lambda request, context: refuse_invalid(context, problem)
    ended = ctl("submit", str(file), "--address", fake.address)
    assert ended.code == 2
    assert f"{file}:5: train.steps must be ≥ 1, got 0\n" in ended.err
    error = ctl("submit", str(file), "--address", fake.address, "--json").error
    assert error["problems"] == [
        {
            "file": str(file),
            "line": 5,
            "field": "train.steps",
            "message": "train.steps must be ≥ 1, got 0",
            "suggestion": "",
            "detail": "",
        }
    ]
    assert error["kind"] == "invalid_run"


def test_submit_without_a_daemon_names_mistakes_first(ctl: Ctl, run_file: Write) -> None:
    assert ctl("submit", str(run_file())).code == 5
    ended = ctl("submit", str(run_file("nam = 1")))
    assert ended.code == 2
    assert "did you mean name?" in ended.err


@pytest.mark.parametrize(("state", "code"), [("completed", 0), ("failed", 1), ("stopped", 75)])
def test_submit_wait_exits_with_the_runs_result(
    fake: FakeControl, ctl: Ctl, run_file: Write, state: str, code: int
) -> None:
    fake.answer("SubmitRun", api.SubmitRunResponse(run=a_run("queued")))
    fake.answer(
        "WatchRun",
        [api.WatchRunResponse(run=a_run()), api.WatchRunResponse(run=a_run(state))],
    )
    ended = ctl("submit", str(run_file()), "--wait", "--address", fake.address)
    assert ended.code == code
    assert ended.out.startswith("demo-1a2b\n")
    assert f"demo-1a2b {state} at step 200 of 400" in ended.out
    documents = ctl("submit", str(run_file()), "--wait", "--json", "--address", fake.address)
    assert [document["run"]["state"] for document in documents.documents] == [
        "RUN_STATE_QUEUED", "RUN_STATE_RUNNING", f"RUN_STATE_{state.upper()}",
    ]  # fmt: skip


def test_run_on_a_shared_daemon_submits_and_watches(
    fake: FakeControl, ctl: Ctl, run_file: Write
) -> None:
    fake.answer("SubmitRun", api.SubmitRunResponse(run=a_run("queued")))
    fake.answer("WatchRun", [api.WatchRunResponse(run=completed())])
    ended = ctl("run", str(run_file()), "--address", fake.address, daemon_command=["/nonexistent"])
    assert ended.code == 0
    assert "digest      " + "ab" * 32 in ended.out
    assert ended.err == "", "no private daemon was started"


@pytest.mark.parametrize("command", ["submit", "run"])
def test_resume_names_the_run_to_begin_with(
    command: str, fake: FakeControl, ctl: Ctl, run_file: Write
) -> None:
    fake.answer("SubmitRun", api.SubmitRunResponse(run=a_run("queued")))
    fake.answer("WatchRun", [api.WatchRunResponse(run=completed())])
    ended = ctl(command, str(run_file()), "--address", fake.address, "--resume", "demo-0")
    assert ended.code == 0
    assert fake.requests["SubmitRun"][0].resume_run == "demo-0"
