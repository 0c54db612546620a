"""TOML run files become specifications; what is wrong is listed at once, with its line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from trainerd.clients.errors import BadInput
from trainerd.clients.problems import merged, rendered
from trainerd.clients.runfile import MAX_RUN_FILE_BYTES, load_run_file
from trainerd.clients.spec_reader import _SCALARS, read_spec
from trainerd.v1 import control_pb2, fault_pb2, inject_pb2, run_pb2

Write = Callable[[str], Path]


def messages(file: Path) -> list[str]:
    loaded = load_run_file(file)
    return [
        f"{loaded.line(p.field)}: {p.message}" + (f" [{p.suggestion}]" if p.suggestion else "")
        for p in merged(loaded, ())
    ]


def test_every_kind_of_field_is_read(run_file: Write) -> None:
    spec = load_run_file(
        run_file("""
name = "demo"
entry = "trainerd.actors.examples.stdlib_lm:build"
[args]
width = 128
rate = 1.0
flag = true
text = "x"
list = [1, 2.5, ["a"]]
table = { inner = { n = 0 } }
empty = {}
[train]
steps = 400
global_batch = 32
microbatch = 8
deterministic = false
state = "sharded"
[trainer]
env = { A = "1" }
[checkpoint]
on_repeated_failure = "pause"
max_age_s = 60
[policy]
backoff_s = 2
[policy.non_finite_step]
action = "skip"
limit = 10
""")
    ).spec
    assert spec.args["width"].int_value == 128
    assert spec.args["width"].WhichOneof("kind") == "int_value"
    assert spec.args["rate"].WhichOneof("kind") == "double_value"
    assert spec.args["flag"].bool_value is True
    kinds = [value.WhichOneof("kind") for value in spec.args["list"].list_value.values]
    assert kinds == ["int_value", "double_value", "list_value"]
    inner = spec.args["table"].table_value.values["inner"].table_value.values["n"]
    assert inner.WhichOneof("kind") == "int_value"
    assert spec.args["empty"].WhichOneof("kind") == "table_value"
    assert spec.train.steps == 400
    assert not spec.train.deterministic
    assert spec.train.HasField("deterministic")
    assert spec.train.state == run_pb2.STATE_LAYOUT_SHARDED
    assert not spec.train.HasField("seed"), "what is not given stays unset"
    assert dict(spec.trainer.env) == {"A": "1"}
    assert spec.checkpoint.on_repeated_failure == run_pb2.ON_REPEATED_FAILURE_PAUSE
    assert spec.checkpoint.max_age_s == 60.0, "an integer is accepted for a double"
    assert spec.policy.non_finite_step.action == fault_pb2.ACTION_SKIP
    assert not spec.HasField("hosts")


def test_all_problems_come_at_once_in_the_order_of_their_lines(run_file: Write) -> None:
    file = run_file("""\
name = 3
[train]
steps = "400"
global_batch = 32.0
stepz = 1
deterministic = 1
microbatch = true
[checkpoint]
on_repeated_failure = "pauze"
[trainer]
path = "lib"
env = { A = 1, B = true }
[policy.crash]
limit = 3000000000
[args]
when = 2030-01-31
""")
    assert messages(file) == [
        '1: name must be a string, got the integer 3 [write "3"]',
        '3: train.steps must be an integer, got the string "400" [write 400, without quotes]',
        "4: train.global_batch must be an integer, got the number 32.0 [write 32]",
        "5: train.stepz is not known [did you mean train.steps?]",
        "6: train.deterministic must be true or false, got the integer 1",
        "7: train.microbatch must be an integer, got the boolean true",
        '9: checkpoint.on_repeated_failure must be one of "continue", "pause", "fail", '
        'got "pauze" [did you mean "pause"?]',
        '11: trainer.path must be an array, got the string "lib"',
        '12: trainer.env.A must be a string, got the integer 1 [write "1"]',
        '12: trainer.env.B must be a string, got the boolean true [write "true"]',
        "14: policy.crash.limit must fit in 32 bits, got 3000000000",
        "16: args.when must be a boolean, a number, a string, an array or a table, got the date "
        '2030-01-31 [dates are not supported: write it as a string, such as "2030-01-31"]',
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("steps = 4", "1: steps is not known [did you mean train.steps?]"),
        ("[train]\nevery_steps = 4", "2: train.every_steps is not known "
         "[did you mean checkpoint.every_steps?]"),
        ("[hosts]\nzzzz = 4", "2: hosts.zzzz is not known "
         "[known keys of [hosts]: count, min, wait_s]"),
        ("[args]\nn = 9223372036854775808",
         "2: args.n must fit in 64 bits, got 9223372036854775808"),
        ("train = 4", "1: train must be a table, got the integer 4"),
        ("[[train]]\nsteps = 4", "1: train must be a table, got an array"),
        ("args = 4", "1: args must be a table, got the integer 4"),
        ('[policy.crash]\naction = 3', '2: policy.crash.action must be one of "continue", "mask", '
         '"skip", "rollback", "restart", "reform", "pause", "fail", got the integer 3'),
        ('[policy.crash]\naction = "unspecified"', None),
        ('[trainer]\npath = [\n"a",\n1]', '4: trainer.path[1] must be a string, got the integer 1 '
         '[write "1"]'),
        ('[trainer.env]\n"a b" = 1', '2: trainer.env."a b" must be a string, got the integer 1 '
         '[write "1"]'),
    ],
)  # fmt: skip
def test_a_wrong_key_or_type_is_said_at_its_line(
    run_file: Write, text: str, message: str | None
) -> None:
    found = messages(run_file(text))
    assert len(found) == 1
    if message is not None:
        assert found == [message]


def test_every_scalar_type_of_the_specification_can_be_read() -> None:
    seen, unknown = set(), []

    def look(descriptor: object) -> None:
        if descriptor in seen or descriptor.full_name == "trainerd.v1.Value":
            return
        seen.add(descriptor)
        for field in descriptor.fields:
            if field.message_type is not None:
                look(field.message_type)
            elif field.enum_type is None and field.type not in _SCALARS:
                unknown.append(field.full_name)

    look(run_pb2.RunSpec.DESCRIPTOR)
    assert len(seen) > 8
    assert unknown == []


@pytest.mark.parametrize(
    ("text", "end"),
    [
        (b'name = "a"\nsteps = = 3\n', "run.toml:2:9: not valid TOML: Invalid value"),
        (b"[train]\na = 1\n[train]\n", "run.toml:3:7: not valid TOML: "),
        (b"a = 1\na = 2\n", "run.toml:2:6: not valid TOML: Cannot overwrite a value"),
        (b"a = \"\n", "run.toml:1:6: not valid TOML: "),
        (b"a = 1\nb = '\xff'\n", "run.toml:2: must be UTF-8, got the byte 0xff"),
        (b"x = " + b"[" * 5000, "run.toml"),
    ],
)  # fmt: skip
def test_a_file_that_is_not_toml_is_refused_with_line_and_column(
    tmp_path: Path, text: bytes, end: str
) -> None:
    file = tmp_path / "run.toml"
    file.write_bytes(text)
    with pytest.raises(BadInput) as refused:
        load_run_file(file)
    assert end in refused.value.message
    assert "\n" not in refused.value.message


def test_a_missing_file_a_directory_and_a_huge_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="there is no run file"):
        load_run_file(tmp_path / "none.toml")
    with pytest.raises(BadInput, match="is a directory"):
        load_run_file(tmp_path)
    with pytest.raises(BadInput, match="cannot read"):
        load_run_file("a\0b")
    huge = tmp_path / "huge.toml"
    with huge.open("wb") as file:
        file.truncate(MAX_RUN_FILE_BYTES + 1)
    with pytest.raises(BadInput, match="is larger than"):
        load_run_file(huge)


def test_a_byte_order_mark_is_tolerated(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_bytes(b'\xef\xbb\xbfname = "demo"\n')
    assert load_run_file(file).spec.name == "demo"


def test_relative_paths_resolve_against_the_run_file(
    run_file: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    file = run_file("""
[trainer]
python = "venv/bin/python"
path = ["lib", "/abs", "../up"]
workdir = "work"
[checkpoint]
directory = "~/checkpoints"
fallback_directory = "gs://bucket/run"
""")
    spec = load_run_file(file).spec
    assert spec.trainer.python == f"{tmp_path}/venv/bin/python"
    assert list(spec.trainer.path) == [f"{tmp_path}/lib", "/abs", f"{tmp_path.parent}/up"]
    assert spec.trainer.workdir == f"{tmp_path}/work"
    assert spec.checkpoint.directory == "/home/somebody/checkpoints"
    assert spec.checkpoint.fallback_directory == "gs://bucket/run"
    monkeypatch.chdir(tmp_path)
    assert load_run_file("run.toml").spec == spec


def test_a_python_without_a_slash_and_empty_paths_are_left_alone(run_file: Write) -> None:
    spec = load_run_file(
        run_file('[trainer]\npython = "python3.12"\nworkdir = ""\n[checkpoint]\ndirectory = ""')
    ).spec
    assert spec.trainer.python == "python3.12"
    assert spec.trainer.workdir == spec.checkpoint.directory == ""


@pytest.mark.parametrize(
    ("made", "entry", "found"),
    [
        ("my_program.py", "my_program:build", True),
        ("pack/mod.py", "pack.mod:build", True),
        ("pack/__init__.py", "pack:build", True),
        ("other.py", "my_program:build", False),
        ("my_program.py", "../my_program:build", False),
    ],
)
def test_a_program_next_to_the_run_file_is_importable(
    run_file: Write, tmp_path: Path, made: str, entry: str, found: bool
) -> None:
    (tmp_path / made).parent.mkdir(exist_ok=True)
    (tmp_path / made).touch()
    spec = load_run_file(run_file(f'entry = "{entry}"')).spec
    assert list(spec.trainer.path) == ([str(tmp_path)] if found else [])


def test_a_given_path_is_not_added_to(run_file: Write, tmp_path: Path) -> None:
    (tmp_path / "my_program.py").touch()
    spec = load_run_file(run_file('entry = "my_program:build"\n[trainer]\npath = []')).spec
    assert list(spec.trainer.path) == []


def test_a_missing_key_stands_where_its_table_does(run_file: Write) -> None:
    file = load_run_file(run_file('name = "x"\n\n[train]\nsteps = 1\n[trainer]\npath = ["a"]'))
    assert file.line("train.global_batch") == 3
    assert file.line("checkpoint.every_steps") is None
    assert file.line("") is None
    assert file.line("trainer.path[0]") == file.line("trainer.path.0") == 6


def test_a_problem_is_rendered_as_editors_read_it(run_file: Write) -> None:
    path = run_file("[train]\nsteps = 0\n")
    problem = control_pb2.Problem(
        field="train.steps",
        message="train.steps must be ≥ 1, got 0",
        suggestion="write steps = 400",
        detail="Traceback:\n  \x1b[31mboom",
    )
    assert rendered(problem, load_run_file(path)) == (
        f"{path}:2: train.steps must be ≥ 1, got 0\n"
        "    write steps = 400\n"
        "    | Traceback:\n"
        "    |   [31mboom"
    )


def test_the_daemon_is_not_quoted_on_what_the_client_could_not_read(run_file: Write) -> None:
    file = load_run_file(run_file('[train]\nsteps = "4"\nseed = -1\n'))
    from_daemon = [
        control_pb2.Problem(field="train.seed", message="seed"),
        control_pb2.Problem(field="train.steps", message="train.steps must be ≥ 1, got 0"),
        control_pb2.Problem(field="name", message="name is missing"),
    ]
    fields = [problem.field for problem in merged(file, from_daemon)]
    assert fields == ["name", "train.steps", "train.seed"]


def test_an_empty_document_is_an_empty_specification() -> None:
    assert read_spec({}) == (run_pb2.RunSpec(), [])


def test_faults_on_purpose_are_read_one_by_one_and_as_a_schedule(run_file: Write) -> None:
    spec = load_run_file(
        run_file("""
name = "drill"
[[inject.faults]]
fault = "nan"
step = 50
slots = [0, 1]
[[inject.faults]]
fault = "slow_step"
probability = 0.01
seconds = 2
times = 5
[inject.schedule]
faults = ["sigkill", "data_error"]
mean_steps = 30
seed = 7
""")
    ).spec

    first, second = spec.inject.faults
    assert first == inject_pb2.Injection(fault=inject_pb2.INJECTED_FAULT_NAN, step=50, slots=[0, 1])
    assert (second.probability, second.seconds, second.times) == (0.01, 2.0, 5)
    assert spec.inject.schedule == inject_pb2.InjectSchedule(
        faults=[inject_pb2.INJECTED_FAULT_SIGKILL, inject_pb2.INJECTED_FAULT_DATA_ERROR],
        mean_steps=30,
        seed=7,
    )


def test_what_is_wrong_with_a_fault_on_purpose_is_said_at_its_line(run_file: Write) -> None:
    file = run_file("""
[[inject.faults]]
fault = "nan"
step = 5
[[inject.faults]]
fault = "sigkil"
stp = 3
[inject.schedule]
faults = ["hang", "luck"]
""")

    fault, step, scheduled = messages(file)
    assert fault.startswith("6: inject.faults[1].fault must be one of ")
    assert fault.endswith('[did you mean "sigkill"?]')
    assert step == "7: inject.faults[1].stp is not known [did you mean inject.faults[1].step?]"
    assert scheduled.startswith("9: inject.schedule.faults[1] must be one of ")


def test_a_list_that_should_hold_tables_says_so(run_file: Write) -> None:
    assert messages(run_file('[inject]\nfaults = ["nan"]\n')) == [
        '2: inject.faults[0] must be a table, got the string "nan"'
    ]
