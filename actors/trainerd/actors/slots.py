"""How a batch is cut into slots, and how slots are laid out over devices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from trainerd.actors.errors import PlanError
from trainerd.actors.state import PyTree


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotPlan:
    """`slots` equal blocks of `slot_examples` examples over `devices` devices.

    Each slot is computed in `parts` equal parts, one after the other.

    Each device runs `per_device` slots; those beyond `slots` are padding of weight zero. Slot `i`
    is the examples `i * slot_examples` to `(i + 1) * slot_examples`, wherever it runs.
    """

    slots: int
    slot_examples: int
    devices: int
    parts: int = 1

    def __post_init__(self) -> None:
        for name in ("slots", "slot_examples", "devices", "parts"):
            if (value := getattr(self, name)) < 1:
                raise PlanError(f"{name} must be ≥ 1, got {value}")
        if self.devices > self.slots:
            raise PlanError(
                f"{self.devices} devices cannot share {self.slots} slots: each needs at least one",
                suggestion="make train.microbatch smaller, or train on fewer devices",
            )
        if self.slot_examples % self.parts:
            raise PlanError(
                f"a slot of {self.slot_examples} examples cannot be computed in {self.parts} equal "
                "parts",
                suggestion="choose a number of examples per slot that these parts divide",
            )

    @property
    def per_device(self) -> int:
        """Slots each device runs."""
        return -(-self.slots // self.devices)

    @property
    def padded(self) -> int:
        """Slots all devices run together, padding included."""
        return self.per_device * self.devices

    def examples(self, rows: range) -> slice:
        """Which examples of a batch lie in slots `rows`; none lie in padding."""
        first, end = (min(slot, self.slots) for slot in (rows.start, rows.stop))
        return slice(first * self.slot_examples, end * self.slot_examples)

    def cut(self, batch: PyTree, rows: range | None = None) -> PyTree:
        """Cut leaves `(examples, …)` into `(padded, slot_examples, …)`, zero-padded.

        With `rows`: the examples are those of these slots, and so are the slots.
        """
        length = self.padded if rows is None else len(rows)
        return jax.tree.map(lambda leaf: self._cut_leaf(leaf, length), batch)

    def empty(self, template: PyTree, rows: range | None = None) -> PyTree:
        """Make slots of zeros, all or `rows`, for examples shaped like `template`."""
        shape = (self.padded if rows is None else len(rows), self.slot_examples)
        return jax.tree.map(lambda leaf: np.zeros(shape + leaf.shape, leaf.dtype), template)

    def weigh(
        self,
        slots: PyTree,
        weight: Callable[[PyTree], float] | None,
        rows: range | None = None,
    ) -> np.ndarray[Any, Any]:
        """Return the `(padded,)` float32 weights of cut slots: 1 each, or what `weight` says.

        With `rows`: `slots` are these alone, and the others are not weighed. Raises ValueError
        where `weight` returns something other than a finite number ≥ 0, or where none of all slots
        has any.
        """
        weights = np.zeros(self.padded, np.float32)
        if weight is None:
            weights[: self.slots] = 1.0
            return weights
        own = range(self.padded) if rows is None else rows
        for slot in own:
            if slot >= self.slots:
                break
            at = slot - own.start
            came = weight(jax.tree.map(lambda leaf, at=at: leaf[at], slots))
            value = float(came)
            if not (np.isfinite(value) and value >= 0):
                raise ValueError(f"weight of slot {slot} must be a finite number ≥ 0, got {value}")
            weights[slot] = value
        if len(own) == self.padded and not weights.any():
            raise ValueError("weight is 0 for every slot; expected at least one above 0")
        return weights

    def mask(self, slots: tuple[int, ...]) -> np.ndarray[Any, Any]:
        """Return the `(padded,)` bool mask that holds in `slots`."""
        forced = np.zeros(self.padded, np.bool_)
        forced[list(slots)] = True
        return forced

    def _cut_leaf(self, leaf: np.ndarray[Any, Any], length: int) -> np.ndarray[Any, Any]:
        # Not -1: there may be no example at all.
        slots = len(leaf) // self.slot_examples
        cut = leaf.reshape(slots, self.slot_examples, *leaf.shape[1:])
        if slots == length:
            return cut
        padding = np.zeros((length - slots, *cut.shape[1:]), cut.dtype)
        return np.concatenate([cut, padding])


def plan_slots(
    *,
    global_batch: int,
    devices: int,
    microbatch: int | None = None,
    accumulate_steps: int | None = None,
    slots: int = 0,
    parts: int = 1,
) -> SlotPlan:
    """Choose the number of slots, or take the one chosen before (`slots` above 0).

    `microbatch` is examples per slot, `accumulate_steps` slots per device; without either a batch
    is one slot on one device, and one slot a device on several. `parts`: see `SlotPlan`.
    Raises `PlanError` where the numbers do not divide.
    """
    _at_least_one(global_batch=global_batch, devices=devices)
    if microbatch is not None and accumulate_steps is not None:
        raise PlanError("give microbatch or accumulate_steps, not both")
    if microbatch is not None:
        _at_least_one(microbatch=microbatch)
        chosen, odd = divmod(global_batch, microbatch)
        if odd:
            raise PlanError(f"microbatch must divide global_batch {global_batch}, got {microbatch}")
    else:
        per_device = 1 if accumulate_steps is None else accumulate_steps
        _at_least_one(accumulate_steps=per_device)
        chosen = slots or per_device * devices
    if slots and slots != chosen:
        raise PlanError(
            f"the run was begun with {slots} slots, its specification now gives {chosen}",
            suggestion="keep global_batch and microbatch as they were, or begin a new run",
        )
    if global_batch % chosen:
        raise PlanError(
            f"{chosen} slots must divide global_batch {global_batch}",
            suggestion="choose global_batch as a multiple of accumulate_steps × devices",
        )
    return SlotPlan(
        slots=chosen, slot_examples=global_batch // chosen, devices=devices, parts=parts
    )


def _at_least_one(**values: int) -> None:
    for name, value in values.items():
        if value < 1:
            raise PlanError(f"{name} must be ≥ 1, got {value}")
