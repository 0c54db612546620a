"""Everything that is wrong with the faults that somebody asks for, by key path. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator

from trainerd.daemon.drills import MAX_INJECTIONS, expanded
from trainerd.daemon.problem import problem
from trainerd.v1 import control_pb2, inject_pb2, run_pb2

MAX_SECONDS = 3600.0
MAX_TIMES = 1000
MAX_EXIT_CODE = 255

_SLOTTED = (inject_pb2.INJECTED_FAULT_NAN, inject_pb2.INJECTED_FAULT_LOSS_SPIKE)
_NAMES = {
    number: name.removeprefix("INJECTED_FAULT_").lower()
    for name, number in inject_pb2.InjectedFault.items()
    if number
}

_Problems = Iterator[control_pb2.Problem]


def inject_problems(spec: run_pb2.RunSpec) -> _Problems:
    """What is wrong with `[inject]`."""
    slots = _slots(spec.train)
    found = False
    for index, injection in enumerate(spec.inject.faults):
        for each in injection_problems(f"inject.faults[{index}]", injection, slots=slots):
            found = True
            yield each
    if spec.inject.HasField("schedule"):
        for each in _schedule(spec.inject.schedule):
            found = True
            yield each
    if not found and len(expanded(spec)) > MAX_INJECTIONS:
        scheduled = len(spec.inject.faults) <= MAX_INJECTIONS
        yield problem(
            "inject.schedule.mean_steps" if scheduled else "inject.faults",
            f"asks for more than {MAX_INJECTIONS} faults in all",
            "raise mean_steps" if scheduled else "use `times`, `probability` or [inject.schedule]",
        )


def injection_problems(
    path: str, injection: inject_pb2.Injection, *, slots: int | None = None, now: bool = False
) -> _Problems:
    """What is wrong with one injection. `slots`: of a batch, where known. `now`: it may say no step
    and no probability."""
    fault = injection.fault
    if fault not in _NAMES:
        yield problem(f"{path}.fault", f"must be one of {_known()}, {_got(fault)}")
    yield from _when(path, injection, now=now)
    if injection.slots and fault not in _SLOTTED:
        yield problem(f"{path}.slots", 'is only for the faults "nan" and "loss_spike"')
    elif injection.slots:
        yield from _slots_problems(path, injection, slots)
    if not 0 <= injection.times <= MAX_TIMES:
        yield problem(f"{path}.times", f"must be 0 to {MAX_TIMES}, got {injection.times}")
    slow = fault == inject_pb2.INJECTED_FAULT_SLOW_STEP
    if slow and not 0 < injection.seconds <= MAX_SECONDS:
        yield problem(
            f"{path}.seconds",
            f"must be above 0 and at most {MAX_SECONDS:g}, got {injection.seconds:g}",
        )
    elif injection.seconds and not slow:
        yield problem(f"{path}.seconds", 'is only for the fault "slow_step"')
    if injection.exit_code and fault != inject_pb2.INJECTED_FAULT_EXIT:
        yield problem(f"{path}.exit_code", 'is only for the fault "exit"')
    elif not 0 <= injection.exit_code <= MAX_EXIT_CODE:
        yield problem(
            f"{path}.exit_code", f"must be 0 to {MAX_EXIT_CODE}, got {injection.exit_code}"
        )
    if injection.seed < 0:
        yield problem(f"{path}.seed", f"must be ≥ 0, got {injection.seed}")


def _when(path: str, injection: inject_pb2.Injection, *, now: bool) -> _Problems:
    step, probability = injection.step, injection.probability
    if step < 0:
        yield problem(f"{path}.step", f"must be ≥ 1, got {step}")
    # Not a number compares false with everything.
    if not 0 <= probability <= 1:
        yield problem(f"{path}.probability", f"must be above 0 and at most 1, got {probability:g}")
    if step and probability:
        yield problem(
            f"{path}.probability",
            f"cannot be given together with {path}.step: both say when it happens",
            "keep one of the two",
        )
    elif not step and not probability and not now:
        yield problem(
            f"{path}.step",
            "is missing: nothing says when it happens",
            f"set {path}.step (≥ 1) or {path}.probability (above 0, at most 1)",
        )


def _slots_problems(path: str, injection: inject_pb2.Injection, slots: int | None) -> _Problems:
    if len(set(injection.slots)) < len(injection.slots):
        yield problem(f"{path}.slots", "names a slot twice")
    for index, slot in enumerate(injection.slots):
        if slot < 0 or (slots is not None and slot >= slots):
            most = f" to {slots - 1}" if slots is not None else " or more"
            yield problem(f"{path}.slots[{index}]", f"must be 0{most}, got {slot}")


def _schedule(schedule: inject_pb2.InjectSchedule) -> _Problems:
    if not schedule.faults:
        yield problem(
            "inject.schedule.faults", "must name at least one fault", f"known faults: {_known()}"
        )
    for index, fault in enumerate(schedule.faults):
        if fault not in _NAMES:
            yield problem(
                f"inject.schedule.faults[{index}]", f"must be one of {_known()}, {_got(fault)}"
            )
    if not 1 <= schedule.mean_steps < math.inf:
        yield problem("inject.schedule.mean_steps", f"must be ≥ 1, got {schedule.mean_steps:g}")
    if schedule.seed < 0:
        yield problem("inject.schedule.seed", f"must be ≥ 0, got {schedule.seed}")


def _slots(train: run_pb2.TrainSpec) -> int | None:
    """Slots of a batch; None where the trainer chooses them."""
    if train.HasField("accumulate_steps") or train.global_batch < 1:
        return None
    microbatch = train.microbatch if train.HasField("microbatch") else train.global_batch
    return train.global_batch // microbatch if microbatch >= 1 else None


def _known() -> str:
    return ", ".join(f'"{name}"' for name in _NAMES.values())


def _got(fault: int) -> str:
    return f"got {fault}" if fault else "it is missing"
