"""What people write by hand: loops to compare with. All have one optimizer, data and seed."""

from __future__ import annotations

import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from bench.models import Model
from trainerd.actors.compiled import CompiledStep, compile_step
from trainerd.actors.control import word
from trainerd.actors.data import Batches
from trainerd.actors.program import Program
from trainerd.actors.slots import plan_slots
from trainerd.actors.state import initial_state
from trainerd.actors.step import Settings, abstract_state, data_mesh, fresh_state


class Reader:
    """A permutation of the data, read in order: what a hand-written loop does. `fixed`: once."""

    def __init__(self, model: Model, slots: int, *, fixed: bool) -> None:
        self._source = model.program.data
        self._order = np.random.default_rng(0).permutation(len(self._source))
        self._size, self._slots = model.global_batch, slots
        self._next = 0
        self._kept = jax.device_put(self._read()) if fixed else None

    def __call__(self) -> Any:
        return self._read() if self._kept is None else self._kept

    def _read(self) -> Any:
        start = self._next % (len(self._order) - self._size + 1)
        self._next += self._size
        rows = [self._source[int(index)] for index in self._order[start : start + self._size]]
        shape = (self._slots, self._size // self._slots)
        return {
            name: np.stack([row[name] for row in rows]).reshape(shape + np.shape(rows[0][name]))
            for name in rows[0]
        }


class ByHand:
    """A bare `jit` loop: scan over slots, mean, update; no guard, no metrics, nothing reported."""

    def __init__(self, model: Model, *, slots: int, fixed: bool = False) -> None:
        program = model.program
        self._read = Reader(model, slots, fixed=fixed)

        def step(params: Any, opt_state: Any, count: Any, batch: Any) -> Any:
            key = jax.random.fold_in(jax.random.key(0), count)

            def body(total: Any, slot: Any) -> tuple[Any, None]:
                index, examples = slot
                found = jax.value_and_grad(lambda p: _loss(program, p, examples, key, index))(
                    params
                )
                return jax.tree.map(jnp.add, total, found), None

            zeros = (jnp.float32(0), jax.tree.map(jnp.zeros_like, params))
            (loss, gradients), _ = jax.lax.scan(body, zeros, (jnp.arange(slots), batch))
            gradients = jax.tree.map(lambda leaf: leaf / slots, gradients)
            updates, opt_state = program.optimizer.update(gradients, opt_state, params)
            return optax.apply_updates(params, updates), opt_state, count + 1, loss / slots

        self._step = jax.jit(step, donate_argnums=(0, 1, 2))
        self._state = _start(program)

    def __call__(self, steps: int) -> float:
        """Run; return seconds a step."""
        began_s = time.perf_counter()
        for _ in range(steps):
            *self._state, loss = self._step(*self._state, self._read())
        loss.block_until_ready()
        return (time.perf_counter() - began_s) / steps


class SameStep:
    """A bare loop around the library's own compiled step: what is left is the host's part."""

    def __init__(self, model: Model, *, slots: int, fixed: bool = False) -> None:
        self._read = Reader(model, slots, fixed=fixed)
        self.compiled, self._state = compiled(model, slots=slots)
        self._weights = self.compiled.place(np.ones(slots, np.float32))
        self._mask = self.compiled.mask(())
        self._settings = Settings.of(steps=2**31 - 2, mask=True)
        self._fixed = self.compiled.place(jax.device_get(self._read())) if fixed else None
        self._word = word()

    def __call__(self, steps: int) -> float:
        """Run; return seconds a step."""
        step, place = self.compiled, self.compiled.place_batch
        began_s = time.perf_counter()
        for _ in range(steps):
            batch = place(self._read()) if self._fixed is None else self._fixed
            self._state, outputs = step(
                self._state, batch, self._weights, self._mask, self._settings, self._word
            )
        outputs.words.block_until_ready()
        return (time.perf_counter() - began_s) / steps


class LargeBatch:
    """One gradient of the whole batch."""

    def __init__(self, model: Model) -> None:
        program = model.program
        whole = Reader(model, 1, fixed=True)()
        self._batch = jax.device_put(jax.tree.map(lambda leaf: leaf[0], jax.device_get(whole)))

        def step(params: Any, opt_state: Any, count: Any, batch: Any) -> Any:
            key = jax.random.fold_in(jax.random.key(0), count)
            loss, gradients = jax.value_and_grad(lambda p: _loss(program, p, batch, key, 0))(params)
            updates, opt_state = program.optimizer.update(gradients, opt_state, params)
            return optax.apply_updates(params, updates), opt_state, count + 1, loss

        self._step = jax.jit(step, donate_argnums=(0, 1, 2))
        self._state = _start(program)

    def __call__(self, steps: int) -> float:
        """Run; return seconds a step."""
        began_s = time.perf_counter()
        for _ in range(steps):
            *self._state, loss = self._step(*self._state, self._batch)
        loss.block_until_ready()
        return (time.perf_counter() - began_s) / steps


class PythonLoop:
    """A Python loop over slots: gradient, sum, and one update at the end."""

    def __init__(self, model: Model, *, slots: int) -> None:
        program = model.program
        batch = Reader(model, slots, fixed=True)()
        self._slots = [
            jax.tree.map(lambda leaf, index=index: leaf[index], batch) for index in range(slots)
        ]

        def add(params: Any, total: Any, count: Any, index: Any, examples: Any) -> Any:
            key = jax.random.fold_in(jax.random.key(0), count)
            found = jax.value_and_grad(lambda p: _loss(program, p, examples, key, index))(params)
            return jax.tree.map(jnp.add, total, found)

        def finish(params: Any, opt_state: Any, count: Any, total: Any) -> Any:
            loss, gradients = jax.tree.map(lambda leaf: leaf / slots, total)
            updates, opt_state = program.optimizer.update(gradients, opt_state, params)
            return optax.apply_updates(params, updates), opt_state, count + 1, loss

        self._zeros = jax.jit(lambda params: (jnp.float32(0), jax.tree.map(jnp.zeros_like, params)))
        self._add = jax.jit(add, donate_argnums=1)
        self._finish = jax.jit(finish, donate_argnums=(0, 1, 2))
        self._state = _start(program)

    def __call__(self, steps: int) -> float:
        """Run; return seconds an update."""
        began_s = time.perf_counter()
        for _ in range(steps):
            params, opt_state, count = self._state
            total = self._zeros(params)
            for index, examples in enumerate(self._slots):
                total = self._add(params, total, count, index, examples)
            *self._state, loss = self._finish(params, opt_state, count, total)
        loss.block_until_ready()
        return (time.perf_counter() - began_s) / steps


class MultiSteps:
    """`optax.MultiSteps`: a call of the step for every slot, an update at the last one."""

    def __init__(self, model: Model, *, slots: int) -> None:
        program = model.program
        batch = Reader(model, slots, fixed=True)()
        self._slots = [
            jax.tree.map(lambda leaf, index=index: leaf[index], batch) for index in range(slots)
        ]
        optimizer = optax.MultiSteps(program.optimizer, every_k_schedule=slots)

        def step(params: Any, opt_state: Any, count: Any, examples: Any) -> Any:
            key = jax.random.fold_in(jax.random.key(0), count)
            loss, gradients = jax.value_and_grad(lambda p: _loss(program, p, examples, key, 0))(
                params
            )
            updates, opt_state = optimizer.update(gradients, opt_state, params)
            return optax.apply_updates(params, updates), opt_state, count + 1, loss

        self._step = jax.jit(step, donate_argnums=(0, 1, 2))
        params, _, count = _start(program)
        self._state = [params, optimizer.init(params), count]

    def __call__(self, steps: int) -> float:
        """Run; return seconds an update."""
        began_s = time.perf_counter()
        for _ in range(steps):
            for examples in self._slots:
                *self._state, loss = self._step(*self._state, examples)
        loss.block_until_ready()
        return (time.perf_counter() - began_s) / steps


def compiled(model: Model, *, slots: int, global_batch: int = 0) -> tuple[CompiledStep, Any]:
    """The library's step on one device, and a state for it."""
    program, size = model.program, global_batch or model.global_batch
    mesh = data_mesh(jax.devices()[:1])
    plan = plan_slots(global_batch=size, devices=1, accumulate_steps=slots)
    template = Batches(program.data, global_batch=size, seed=0).template
    step = compile_step(program, plan, mesh, abstract_state(program, 0, mesh), template)
    return step, fresh_state(program, 0, mesh)


def _start(program: Program) -> list[Any]:
    state = jax.jit(lambda: initial_state(program, 0))()
    return [state.params, state.opt_state, state.step]


def _loss(program: Program, params: Any, examples: Any, key: Any, index: Any) -> Any:
    returned = program.loss(params, examples, jax.random.fold_in(key, index))
    return returned[0] if isinstance(returned, tuple) else returned
