"""The stacks of a trainer as text."""

from __future__ import annotations

from collections.abc import Iterator

from trainerd.clients.sentences import phase_word
from trainerd.clients.wording import one_line, printable
from trainerd.v1 import control_pb2


def stack_lines(response: control_pb2.CollectRunStacksResponse) -> Iterator[str]:
    """Who it is, then each source under its heading: Python frames, native frames, the kernel."""
    run, stacks = response.run, response.stacks
    yield (
        f"{one_line(run.id)}: pid {run.pid}, incarnation {run.incarnation}, "
        f"phase {phase_word(run.phase)}, step {run.step:,}"
    )
    parts = (
        ("Python frames, the innermost first", stacks.python),
        ("native frames", stacks.native),
        ("threads as the kernel sees them: number, name, state, what they wait in", stacks.threads),
    )
    for title, text in parts:
        if text:
            yield ""
            yield f"{title}:"
            yield from (f"  {line}" for line in printable(text).splitlines())
    if not stacks.python:
        yield ""
        yield "no Python frames: the process is stopped, or did not answer within a second"
