"""`python -m trainerd.actors.checker`: says everything that is wrong with a program.

Started by the launcher in the user's Python, on the CPU. Reads a serialised RunSpec from standard
input and writes a serialised CheckProgramResponse to standard output; what the user's code prints
goes to standard error. Shapes are evaluated; nothing is compiled or trained.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Iterator

from trainerd.actors.answering import answer_alone
from trainerd.actors.check import check_program
from trainerd.actors.errors import TrainingError
from trainerd.actors.plan import Plan
from trainerd.actors.program import load_entry
from trainerd.actors.slots import plan_slots
from trainerd.actors.traceback_text import user_traceback
from trainerd.actors.trainer.plans import build_plan
from trainerd.actors.trainer.values import arguments
from trainerd.v1 import control_pb2, launcher_pb2, run_pb2

_TRAIN_KEYS = (
    "steps",
    "global_batch",
    "microbatch",
    "accumulate_steps",
    "evaluate_every_steps",
    "state",
)


def main() -> None:
    """Check one specification and exit."""
    spec = run_pb2.RunSpec.FromString(sys.stdin.buffer.read())
    with answer_alone() as answer:
        problems = check(spec)
        answer.write(launcher_pb2.CheckProgramResponse(problems=problems).SerializeToString())
    sys.stderr.flush()
    # A library may have left a thread behind that never ends.
    os._exit(0)


def check(spec: run_pb2.RunSpec) -> list[control_pb2.Problem]:
    """Load the program and evaluate its shapes; return every problem."""
    problems: list[control_pb2.Problem] = []
    sys.path[:0] = spec.trainer.path
    plan, program = None, None
    with _noting(problems, "train"):
        plan = build_plan(spec)
    with _noting(problems, "entry"):
        program = load_entry(spec.entry, arguments(spec.args))
    if plan is not None and program is None:
        with _noting(problems, "train"):
            _divide(plan)
    if plan is not None and program is not None:
        with _noting(problems, "entry"):
            for fault in check_program(program, plan):
                problems.append(_problem(fault.message, fault.suggestion, fault.detail, "entry"))
    return problems


def _divide(plan: Plan) -> None:
    """The slots on one device: how many devices there will be is not known here."""
    plan_slots(
        global_batch=plan.global_batch,
        devices=1,
        microbatch=plan.microbatch,
        accumulate_steps=plan.accumulate_steps,
    )


@contextlib.contextmanager
def _noting(problems: list[control_pb2.Problem], field: str) -> Iterator[None]:
    """Turn whatever is raised inside into a problem: it is the user's code that runs here."""
    try:
        yield
    except TrainingError as error:
        problems.append(_problem(error.message, error.suggestion, error.detail, field))
    except (Exception, SystemExit, KeyboardInterrupt) as error:
        text = str(error).strip().splitlines() or ["no message"]
        message = f"the program raised {type(error).__name__}: {text[0]}"
        problems.append(_problem(message, "", user_traceback(error), field))


def _problem(message: str, suggestion: str, detail: str, field: str) -> control_pb2.Problem:
    """A problem of the key that its text speaks of, else of `field`."""
    subject = message.partition(" ")[0]
    named = re.search(r"\btrain\.\w+", suggestion)
    if subject in _TRAIN_KEYS:
        field = f"train.{subject}"
    elif named is not None:
        field = named.group()
    elif suggestion.startswith("[args]"):
        field = "args"
    return control_pb2.Problem(field=field, message=message, suggestion=suggestion, detail=detail)


if __name__ == "__main__":
    main()
