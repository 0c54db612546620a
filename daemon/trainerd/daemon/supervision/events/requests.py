"""What clients ask for."""

from __future__ import annotations

from dataclasses import dataclass

from trainerd.daemon.supervision.drills import Injection
from trainerd.daemon.supervision.policy import Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSubmitted:
    """A client submitted a run. `spec` is opaque here; the rest but the last three is read from it.

    `injections`: the faults it asks for, those of its schedule drawn.
    """

    run: str
    name: str
    spec: bytes
    policy: Policy
    injections: tuple[Injection, ...] = ()
    request_id: str = ""
    resumed_run: str = ""
    restore_directories: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PauseRequested:
    """A client asked to pause."""

    run: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumeRequested:
    """A client asked to go on."""

    run: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StopRequested:
    """A client asked to stop, after a save or without."""

    run: str
    save: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointRequested:
    """A client asked for a checkpoint."""

    run: str
    request_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartRequested:
    """A client asked for a new trainer process."""

    run: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunDeleted:
    """A client deleted the run, or it has aged out: then `reason` says by which rule."""

    run: str
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyChanged:
    """A client changed the policy, or put another one on `trial`.

    `message`: the whole policy as a serialised `v1.Policy`, opaque here; `policy` is read from it,
    but for what a run's checkpoint settings say.
    """

    run: str
    policy: Policy
    message: bytes
    trial: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyTrialEnded:
    """A client ended the trial of a policy."""

    run: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InjectionRequested:
    """A client asked for a fault."""

    run: str
    injection: Injection


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileRequested:
    """A client asked for a profile of `steps` steps, in `directory` or (empty) the run's own."""

    run: str
    request_id: str
    steps: int
    directory: str = ""
