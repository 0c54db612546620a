"""Loading a program by name, and looking at it: every mistake has a clear sentence."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fakes import training
from trainerd.actors.check import check_program
from trainerd.actors.errors import PlanError, ProgramError
from trainerd.actors.plan import Plan, Rule
from trainerd.actors.program import Program, load_entry
from trainerd.actors.reports import FaultClass, Verdict

SOURCE = """
import optax
from trainerd.actors.program import Program


def build(width: int, depth: int = 2) -> Program:
    if width < 0:
        deeper(width)
    return Program(
        init=lambda key: {}, loss=lambda p, b, k: 0.0, optimizer=optax.sgd(0.1), data=[width, depth]
    )


def deeper(width):
    raise ValueError(f"no width of {width}")


def nothing():
    return 7
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A user's module on sys.path; its name."""
    (tmp_path / "users_own.py").write_text(SOURCE)
    (tmp_path / "users_broken.py").write_text("import no_such_package\n")
    (tmp_path / "users_raising.py").write_text("raise KeyError('at import')\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield "users_own"
    for name in ("users_own", "users_broken", "users_raising"):
        sys.modules.pop(name, None)


def test_a_program_is_loaded_with_its_arguments(module: str) -> None:
    assert load_entry(f"{module}:build", {"width": 3}).data == [3, 2]


@pytest.mark.parametrize(
    ("entry", "args", "expected"),
    [
        ("users_own", {}, 'entry must be "package.module:function", got "users_own"'),
        ("users_own:1x", {}, "entry must be"),
        ("no_such:build", {}, 'module "no_such" not found on sys.path'),
        ("users_broken:build", {}, 'module "users_broken" imports "no_such_package"'),
        ("users_raising:build", {}, "importing \"users_raising\" raised KeyError: 'at import'"),
        ("users_own:missing", {}, 'has no function "missing"; it has build, deeper, nothing'),
        ("users_own:build", {}, "needs width"),
        (
            "users_own:build",
            {"size": 1, "colour": 2},
            "needs width, does not know size, does not know colour; [args] can hold width, depth",
        ),
        ("users_own:build", {"width": -1}, "raised ValueError: no width of -1"),
        ("users_own:nothing", {}, "must return a trainerd.actors Program, got int"),
    ],
)
def test_what_cannot_be_loaded_says_why(
    module: str, entry: str, args: dict[str, Any], expected: str
) -> None:
    with pytest.raises(ProgramError) as raised:
        load_entry(entry, args)
    assert expected in str(raised.value)


def test_a_missing_module_points_to_the_path_setting() -> None:
    with pytest.raises(ProgramError) as raised:
        load_entry("no_such.module:build", {})
    assert raised.value.suggestion == "add its directory to [trainer] path"


def test_the_users_traceback_has_their_frames_and_none_of_ours(module: str) -> None:
    with pytest.raises(ProgramError) as raised:
        load_entry(f"{module}:build", {"width": -1})
    detail = raised.value.detail
    assert "in build" in detail
    assert "in deeper" in detail
    assert detail.endswith("ValueError: no width of -1")
    assert "program.py" not in detail


def test_a_program_is_checked_at_construction() -> None:
    with pytest.raises(ProgramError) as raised:
        Program(init=1, loss=None, optimizer="sgd", data=None, weight=2)  # type: ignore[arg-type]
    text = str(raised.value)
    for expected in (
        "init must be a function, got int",
        "loss must be a function, got NoneType",
        "weight must be a function, got int",
        "optimizer must be an optax.GradientTransformation, got str",
        "data must have a length",
    ):
        assert expected in text


def test_a_plan_lists_all_impossible_numbers() -> None:
    with pytest.raises(PlanError) as raised:
        Plan(steps=0, global_batch=-1, microbatch=True, checkpoint_every_steps=0)
    for expected in (
        "steps must be ≥ 1, got 0",
        "global_batch must be ≥ 1, got -1",
        "microbatch must be an integer, got True",
        "checkpoint_every_steps must be ≥ 1, got 0",
    ):
        assert expected in str(raised.value)


def test_a_rule_refuses_an_empty_window() -> None:
    with pytest.raises(PlanError, match="window_s > 0"):
        Rule(action=Verdict.SKIP, limit=1, window_s=0.0)


def plan(**numbers: Any) -> Plan:
    return Plan(**{"steps": 1, "global_batch": 12, "microbatch": 3, **numbers})


def test_a_sound_program_has_no_problems() -> None:
    assert check_program(training.program(), plan()) == []


def test_checking_computes_nothing() -> None:
    """Shapes alone: a loss that would be NaN, or take for ever, is not run."""
    assert (
        check_program(training.program(loss=lambda p, b, k: p["b"].sum() * jnp.nan), plan()) == []
    )


def test_all_problems_are_found_at_once() -> None:
    def bad_init(key: Any) -> Any:
        raise RuntimeError("no such width")

    data = training.Data(spoil={index: ValueError("torn") for index in range(40)})
    problems = check_program(training.program(init=bad_init, data=data), plan(microbatch=5))
    text = "\n".join(problem.message for problem in problems)
    assert len(problems) == 3
    assert "microbatch must divide global_batch 12, got 5" in text
    assert "the source raised for each of its first examples" in text
    assert "RuntimeError: no such width" in text
    assert "in bad_init" in "".join(problem.detail for problem in problems)


def test_shapes_that_do_not_fit_show_the_users_line() -> None:
    def loss(params: Any, batch: Any, key: Any) -> Any:
        return jnp.mean(batch["x"] @ params["b"])

    (problem,) = check_program(training.program(loss=loss), plan())
    assert problem.fault_class is FaultClass.STEP_EXCEPTION
    assert 'batch["x"] @ params["b"]' in problem.detail
    assert "trainerd/actors/check.py" not in problem.detail


def test_an_update_that_changes_shapes_is_refused() -> None:
    growing = optax.GradientTransformation(
        init=lambda params: jnp.zeros(1),
        update=lambda updates, state, params=None: (updates, jnp.zeros(2)),
    )
    (problem,) = check_program(training.program(optimizer=growing), plan())
    assert "from shape [1] to [2]" in problem.message


def test_integer_parameters_are_refused_with_jax_s_own_words() -> None:
    (problem,) = check_program(
        training.program(init=lambda key: {"a": jnp.ones(3, int), "b": jnp.ones(8)}), plan()
    )
    assert "int32" in problem.message


def test_a_weight_that_is_no_number_is_found() -> None:
    (problem,) = check_program(training.program(weight=lambda batch: np.nan), plan())
    assert "weight of slot 0 must be a finite number ≥ 0, got nan" in problem.message
