"""What a loop works with, and what it leaves behind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from trainerd.actors.batch_files import Evidence, NoEvidence
from trainerd.actors.drills import Drill
from trainerd.actors.hooks import Audience
from trainerd.actors.reports import Controls, Fault, Reporter, Result
from trainerd.actors.rules import Rulebook
from trainerd.actors.stage import Stage
from trainerd.actors.state import PyTree


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a loop works with and does not own. `lenient`: see `Mishaps`.

    `interrupts` are exceptions that user code may raise to end the run in good order. `rulebook` is
    where other rules than the plan's come from, `drill` makes faults happen on purpose, `evidence`
    keeps the batches of faults.
    """

    reporter: Reporter
    controls: Controls
    stage: Stage
    audience: Audience
    clock: Callable[[], float]
    lenient: bool = False
    interrupts: tuple[type[BaseException], ...] = ()
    rulebook: Rulebook = field(default_factory=Rulebook)
    drill: Drill | None = None
    evidence: Evidence = field(default_factory=NoEvidence)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a loop ended. `state` is what the run returns; None: it is lost. `own_state`: it is the
    one that the digest and the checkpoints are of, not one that a callback asked for.

    `fault` was decided on, with `cause` behind it, and `why` if a budget is spent; `raised` is
    what callbacks, loggers or interrupts raised. `stopped_by` names a callback.
    """

    result: Result
    state: PyTree | None
    own_state: bool = True
    fault: Fault | None = None
    cause: BaseException | None = None
    why: str = ""
    raised: BaseException | None = None
    stopped_by: str = ""
