"""What saving costs training: the time a step is blocked, and the rate with digests and all."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from bench.figures import Figure, at_least, at_most, figure
from bench.models import Model
from fakes.training import Recorder
from trainerd.actors.checkpoint_files import META, STATE
from trainerd.actors.checkpoint_meta import CheckpointMeta
from trainerd.actors.checkpoint_retention import Retention
from trainerd.actors.checkpoint_tree import to_nested
from trainerd.actors.checkpointer import asynchronous
from trainerd.actors.checkpoints import CheckpointStore
from trainerd.actors.plan import Plan
from trainerd.actors.program_loop import run_loop
from trainerd.actors.reports import (
    Controls,
    Fault,
    FinishReason,
    SaveRecord,
    StepRecord,
)
from trainerd.actors.step import data_mesh, fresh_state

BLOCKED_BOUND, RATE_BOUND = 1.2, 0.97
EVERY_STEPS = 50
WINDOW_STEPS = 5
NEVER = 10**9
DRAIN_S = 120.0


def blocked(model: Model, *, pairs: int) -> list[Figure]:
    """Seconds until training may go on, ours over Orbax's own asynchronous save, taking turns."""
    state = fresh_state(model.program, 0, data_mesh(jax.devices()[:1]))
    jax.block_until_ready(state)
    size_bytes = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    meta = _meta(model)
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        ours_at, bare_at = Path(folder) / "ours", Path(folder) / "bare"
        bare_at.mkdir()
        store = CheckpointStore(
            ours_at, retention=Retention(keep=1), listener=_Listening(), clock=time.monotonic
        )
        checkpointer = asynchronous()

        def ours(step: int) -> float:
            begun_s = time.perf_counter()
            store.save(step, state, meta)
            took_s = time.perf_counter() - begun_s
            if not store.drain(DRAIN_S) or store.durable(step) is None:
                raise RuntimeError("nothing was saved: this measured something else")
            return took_s

        def bare(step: int) -> float:
            parts: dict[str, Any] = {
                STATE: ocp.args.StandardSave(to_nested(state)),
                META: ocp.args.JsonSave(meta.as_json()),
            }
            begun_s = time.perf_counter()
            checkpointer.save(bare_at / str(step), args=ocp.args.Composite(**parts))
            took_s = time.perf_counter() - begun_s
            checkpointer.wait_until_finished()
            shutil.rmtree(bare_at / str(step))
            return took_s

        for pair in range(pairs + 1):
            if pair % 2:
                other_s, own_s = bare(pair), ours(pair)
            else:
                own_s, other_s = ours(pair), bare(pair)
            ratios.append(own_s / other_s)
        store.close(DRAIN_S)
        checkpointer.close()
    return [
        figure(
            f"time a step is blocked by a save of {size_bytes / 1e6:.0f} MB, {model.name}",
            "bare Orbax asynchronous save",
            # The first pair warms.
            ratios[1:],
            unit="×",
            bound=at_most(BLOCKED_BOUND),
        )
    ]


def rate(model: Model, *, pairs: int) -> list[Figure]:
    """Steps a second with a save every 50 steps over those without, in turns in one run.

    A save costs what it costs within the few steps after it; the others of the 50 are alike, and
    half a minute of them drifts by more than a save costs. So a window with a save lasts until that
    is durable, and at least a few steps; one without lasts as long as a few steps; and what the
    save has cost is counted on 50 of the other window's.
    """
    recorder = Recorder()
    windows = _Windows(pairs + 1, saved=lambda: len(recorder.all("saved")))
    recorder.on_step = windows.stepped
    with tempfile.TemporaryDirectory() as folder:
        run_loop(
            model.program,
            Plan(
                steps=NEVER,
                global_batch=model.global_batch,
                microbatch=model.microbatch,
                checkpoint_every_steps=NEVER,
            ),
            checkpoint_directory=Path(folder),
            reporter=recorder,
            controls=windows.controls,
        )
    if recorder.faults:
        raise RuntimeError(f"not every save is durable: {recorder.faults[0].message}")
    return [
        figure(
            f"step rate with a save every {EVERY_STEPS} steps, digests on, {model.name}",
            "the same run without saving",
            windows.ratios[1:],
            unit="ratio",
            bound=at_least(RATE_BOUND),
        )
    ]


class _Listening:
    """Takes what a store reports; a fault is none that this measures."""

    def saved(self, record: SaveRecord) -> None:
        """As it should be."""

    def faulted(self, fault: Fault) -> None:
        """A benchmark of failures would be another one."""
        raise RuntimeError(fault.message)


class _Windows:
    """Times short windows of steps in turn, with a save and without: A B B A …

    `saved`: how many saves are durable by now.
    """

    def __init__(self, pairs: int, *, saved: Callable[[], int]) -> None:
        self.controls = Controls()
        self.ratios: list[float] = []
        self._pairs, self._saved = pairs, saved
        self._number = -1
        self._begun_s, self._steps, self._before = 0.0, 0, 0
        # Seconds a window took and its steps, by whether there was a save in it.
        self._pair: dict[bool, tuple[float, int]] = {}

    def stepped(self, record: StepRecord) -> None:
        """A step has landed."""
        now_s = time.perf_counter()
        self._steps += 1
        begun = self._number >= 0
        open_yet = begun and self._saving and self._saved() == self._before
        if self._steps < WINDOW_STEPS or open_yet:
            return
        if begun:
            self._pair[self._saving] = (now_s - self._begun_s, self._steps)
        if len(self._pair) == 2:
            self.ratios.append(_slower(self._pair[True], self._pair[False]))
            self._pair = {}
            if len(self.ratios) == self._pairs:
                self.controls.stop(FinishReason.STOPPED, save=False)
                return
        self._number += 1
        self._begun_s, self._steps, self._before = now_s, 0, self._saved()
        if self._saving:
            self.controls.save()

    @property
    def _saving(self) -> bool:
        return self._number % 4 in (0, 3)


def _slower(saving: tuple[float, int], plain: tuple[float, int]) -> float:
    """The rate of 50 steps with what a save has cost over that of 50 without it."""
    (saving_s, saving_steps), (plain_s, plain_steps) = saving, plain
    step_s = plain_s / plain_steps
    cost_s = saving_s - saving_steps * step_s
    return EVERY_STEPS * step_s / (EVERY_STEPS * step_s + cost_s)


def _meta(model: Model) -> CheckpointMeta:
    return CheckpointMeta(
        run_id="bench",
        batch=0,
        slots=1,
        global_batch=model.global_batch,
        seed=0,
        loss=0.0,
        masked_slots=0,
        skipped_batches=0,
        ledger=(),
    )
