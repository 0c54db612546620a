"""What saving costs training: the time a step is blocked, and the rate with digests and all."""

from __future__ import annotations

import shutil
import tempfile
import time
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
    """Steps a second with a save every 50 steps over those without, in turns in one run."""
    windows = _Windows(pairs + 1)
    recorder = Recorder(on_step=windows.stepped)
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
    if len(recorder.all("saved")) < pairs or recorder.faults:
        raise RuntimeError("not every save is durable: this measured something else")
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
    """Times windows of 50 steps in turn, with a save from the first step on and without."""

    def __init__(self, pairs: int) -> None:
        self.controls = Controls()
        self.ratios: list[float] = []
        self._pairs = pairs
        self._seconds: list[float] = []
        self._begun_s = 0.0

    def stepped(self, record: StepRecord) -> None:
        """A step has landed."""
        if record.step % EVERY_STEPS:
            return
        now_s = time.perf_counter()
        if self._begun_s:
            self._seconds.append(now_s - self._begun_s)
        self._begun_s = now_s
        # Pairs of windows: with and without, without and with.
        windows = len(self._seconds)
        if windows and windows % 2 == 0:
            first_s, second_s = self._seconds[-2:]
            turned = len(self.ratios) % 2
            self.ratios.append(first_s / second_s if turned else second_s / first_s)
            if len(self.ratios) == self._pairs:
                self.controls.stop(FinishReason.STOPPED, save=False)
                return
        if windows % 4 in (0, 3):
            self.controls.save()


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
