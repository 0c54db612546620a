"""Writes ops/docs/faults.md from the supervisor's own tables; `--check`: says if it is stale."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from trainerd.daemon.supervision import matrix
from trainerd.daemon.supervision.decision import JITTER
from trainerd.daemon.supervision.policy import ALLOWED_ACTIONS, Action, FaultClass, Policy
from trainerd.daemon.supervision.state import EDGES, TERMINAL

TARGET = Path(__file__).resolve().parents[2] / "ops" / "docs" / "faults.md"

_INTRO = """\
<!-- Written by ops/dev/fault_table.py from the supervisor's own tables: change those. -->
# Faults

What can befall a run, how it is told, what is done about it. This is the default policy; the
`[policy]` of a run file and `trainerctl policy` change the rules that are marked ✎.
"""

_ACTIONS = """\
## Actions, mildest first

- **continue**: it is counted and reported, nothing else.
- **mask**: one slot is left out of the mean. **skip**: the whole batch is left out. Both happen
  inside the compiled step, within the budget and without asking; the ledger keeps what was left
  out.
- **rollback**: in the same process, back to the newest sound checkpoint that is at least
  `rollback_steps` ({rollback_steps}) steps older. Every batch from there to the offending one is
  left out from then on.
- **restart**: a new process goes on from the newest sound checkpoint. The first one at once, the
  next after {backoff_s:g} s, then twice as long each time, at most {backoff_max_s:g} s; each up to
  {jitter:.0%} shorter, so that runs do not march in step.
- **pause**: the run holds until somebody resumes it. **fail**: it ends, and says why.

Budgets are sliding windows, counted for each class by itself. A checkpoint above every earlier one
is progress: what counts in a row, and recoveries, begin anew. A restart or a rollback without
progress in between is a cycle; {cycles} of them are the most, whatever the class. A rollback for
the same class a second time within its window and without progress is a **fail**.

Under out of memory a slot's key is folded with the number of the part, so the curve of a loss that
draws from its key (dropout, noise) is another one, of the same distribution.
"""

_STATES = """\
## States of a run

Every change is journalled with its reason; an edge that is not drawn here cannot be taken.
"""


def text() -> str:
    """Return the whole document."""
    policy = Policy()
    actions = _ACTIONS.format(
        rollback_steps=policy.rollback_steps,
        backoff_s=policy.backoff_s,
        backoff_max_s=policy.backoff_max_s,
        jitter=JITTER,
        cycles=policy.max_cycles_without_progress,
    )
    table = "\n".join(_table(policy.max_cycles_without_progress))
    diagram = "\n".join(_diagram())
    return f"{_INTRO}\n{table}\n\n{actions}\n{_STATES}\n{diagram}\n"


def _table(cycles: int) -> Iterator[str]:
    yield "| # | class | evidence | default action | when the budget is spent | budget |"
    yield "|---|---|---|---|---|---|"
    for fault_class in FaultClass:
        row = matrix.MATRIX[fault_class]
        mark = " ✎" if fault_class in ALLOWED_ACTIONS else ""
        cells = (
            row.number,
            f"`{fault_class.value}`{mark}",
            row.evidence,
            matrix.action_of(fault_class),
            matrix.recurrence_of(fault_class),
            matrix.budget_of(fault_class, cycles=cycles),
        )
        yield f"| {' | '.join(cells)} |"
    yield ""
    yield "What a policy may name as `action` or `then`:"
    yield ""
    for fault_class, allowed in ALLOWED_ACTIONS.items():
        names = ", ".join(action.value for action in Action if action in allowed)
        yield f"- `{fault_class.value}`: {names}"


def _diagram() -> Iterator[str]:
    yield "```mermaid"
    yield "stateDiagram-v2"
    for number, (before, afters) in enumerate(EDGES.items()):
        if number == 0:
            yield f"    [*] --> {before.name}"
        for after in EDGES:
            if after in afters:
                yield f"    {before.name} --> {after.name}"
        if before in TERMINAL:
            yield f"    {before.name} --> [*]"
    yield "```"


def main() -> int:
    """Write the document, or say that it is stale."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only say whether it is stale")
    asked = parser.parse_args()
    wanted = text()
    present = TARGET.read_text() if TARGET.exists() else ""
    if asked.check:
        if present != wanted:
            print(f"{TARGET.name} is stale: run `python ops/dev/fault_table.py`")
        return int(present != wanted)
    TARGET.write_text(wanted)
    return 0


if __name__ == "__main__":
    sys.exit(main())
