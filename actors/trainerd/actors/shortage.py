"""What is known of memory where a device has run out of it."""

from __future__ import annotations

from dataclasses import replace

from trainerd.actors.reports import Fault, FaultClass
from trainerd.actors.slots import SlotPlan

INDIVISIBLE = "indivisible"
"""Reason of the fault where slots cannot be computed in twice as many parts."""


def short_of_memory(fault: Fault, plan: SlotPlan | None, memory: str = "") -> Fault:
    """Return a fault of exhausted memory with what is known; any other as it is.

    `plan`: how batches are cut, None: not known. `memory`: what the compiled step needs; see
    `CompiledStep.memory`.
    """
    if fault.fault_class is not FaultClass.DEVICE_OOM:
        return fault
    indivisible = plan is not None and plan.slot_examples % (2 * plan.parts) != 0
    return replace(
        fault,
        reason=INDIVISIBLE if indivisible else fault.reason,
        detail="\n".join(part.rstrip() for part in (fault.detail, memory) if part),
    )
