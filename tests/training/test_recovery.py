"""A run that ends without a word goes on from its newest snapshot, with the step it compiled."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import jax
import pytest

from fakes import training
from trainerd.actors import checkpoint_manifest, snapshot_interval
from trainerd.actors.data import Batches
from trainerd.actors.ledger import Entry, Omission
from trainerd.actors.plan import Plan, Rule
from trainerd.actors.program_loop import run_loop
from trainerd.actors.recovery import Recovery
from trainerd.actors.reports import Controls, FaultClass, FinishReason, Result, StepRecord, Verdict
from trainerd.actors.snapshots import NAMES, SnapshotStore

pytestmark = pytest.mark.usefixtures("compiled_once")

STEPS = 60
LENGTH = 12 * 80
"""Examples that are not seen twice."""
EVERY = 7
ROOMY = 1 << 30


@pytest.fixture(scope="module", autouse=True)
def _executables(tmp_path_factory: pytest.TempPathFactory) -> None:
    Host.executables = tmp_path_factory.mktemp("executables")


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Snapshots after every few steps, whatever they cost here."""
    monkeypatch.setattr(snapshot_interval, "every_steps", lambda **_: EVERY)


class Host:
    """A run's directories on one host, and what was heard from its processes."""

    executables: ClassVar[Path]
    """Where all of them keep what they compile."""

    def __init__(self, directory: Path) -> None:
        self.checkpoints, self.memory = directory / "checkpoints", directory / "memory"
        self.memory.mkdir()
        self.told: list[tuple[int, int]] = []
        self.recorder = training.Recorder()

    def train(
        self,
        *,
        stop_when: Callable[[StepRecord], bool] = lambda record: False,
        ledger: tuple[Entry, ...] = (),
        recorder: training.Recorder | None = None,
        data: training.Data | None = None,
        **options: Any,
    ) -> Result:
        controls = Controls()
        self.recorder = recorder or training.Recorder()

        def on_step(record: StepRecord) -> None:
            if stop_when(record):
                # Nothing is saved: as if the process had been killed, but for the open snapshot.
                controls.stop(FinishReason.STOPPED, save=False)

        self.recorder.on_step = on_step
        plan = {"steps": STEPS, "global_batch": 12, "microbatch": 3, "checkpoint_every_steps": 1000}
        with pytest.MonkeyPatch.context() as patch:
            # Else each test's step would be another one.
            patch.delenv("PYTEST_CURRENT_TEST")
            return run_loop(
                training.program(optimizer=training.optimizer(), data=data or training.Data()),
                Plan(**{**plan, **options}),
                checkpoint_directory=self.checkpoints,
                ledger=ledger,
                reporter=self.recorder,
                controls=controls,
                devices=jax.devices()[:1],
                recovery=Recovery(
                    snapshot_directory=self.memory,
                    snapshot_bytes=ROOMY,
                    executable_directory=self.executables,
                    told=lambda *what: self.told.append(what),
                ),
            )

    def whole(self, step: int) -> Callable[[StepRecord], bool]:
        """Whether a snapshot of `step` or later is whole, as the run has said by now."""
        return lambda record: any(told >= step for told, _ in self.told)

    @property
    def restored(self) -> tuple[int, int, str]:
        return self.recorder.all("restored")[0]


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


@pytest.fixture
def undisturbed(tmp_path: Path) -> str:
    (tmp_path / "undisturbed").mkdir()
    return Host(tmp_path / "undisturbed").train().state_digest


def test_a_run_goes_on_from_its_newest_snapshot_to_the_same_bits(
    host: Host, undisturbed: str
) -> None:
    cut = host.train(stop_when=host.whole(2 * EVERY))
    assert not cut.durable
    newest = max(step for step, _ in host.told)
    done = host.train()
    step, batch, source = host.restored
    assert newest <= step == batch
    assert Path(source).name in NAMES
    assert done.state_digest == undisturbed
    assert done.reason is FinishReason.COMPLETED


def test_snapshots_change_nothing(host: Host, tmp_path: Path) -> None:
    plain = run_loop(
        training.program(optimizer=training.optimizer()),
        Plan(steps=STEPS, global_batch=12, microbatch=3),
        checkpoint_directory=tmp_path / "plain",
        devices=jax.devices()[:1],
    )
    assert host.train().state_digest == plain.state_digest
    assert any(step > 0 and every == EVERY for step, every in host.told)


def test_what_was_masked_before_the_snapshot_is_known_after_it(host: Host, tmp_path: Path) -> None:
    def data() -> training.Data:
        return training.Data(spoil={9: "nan"})

    host.train(stop_when=host.whole(3 * EVERY), data=data())
    done = host.train(data=data())
    assert host.restored[0] > 0
    (tmp_path / "other").mkdir()
    whole = Host(tmp_path / "other").train(data=data())
    assert whole.masked_slots > 0
    assert done.masked_slots == whole.masked_slots
    assert done.state_digest == whole.state_digest


def test_a_checkpoint_that_is_newer_wins(host: Host, undisturbed: str) -> None:
    host.train(stop_when=host.whole(2 * EVERY), checkpoint_every_steps=STEPS // 2)
    snapshot = max(step for step, _ in host.told)
    done = host.train(
        stop_when=lambda record: record.step == STEPS // 2 + 2, checkpoint_every_steps=STEPS // 2
    )
    assert host.restored[0] >= snapshot
    for name in NAMES:
        os.truncate(host.memory / name, 10)
    done = host.train(checkpoint_every_steps=STEPS // 2)
    assert host.restored[0] == STEPS // 2
    assert host.restored[2].startswith(str(host.checkpoints))
    assert done.state_digest == undisturbed


def test_a_snapshot_is_used_while_a_newer_checkpoint_cannot_be_read(
    host: Host, undisturbed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.train(
        stop_when=lambda record: record.step == STEPS // 2 + 2, checkpoint_every_steps=STEPS // 2
    )

    snapshots = SnapshotStore(host.memory, most_bytes=ROOMY)
    snapshots.discard_after(STEPS // 2 - 1)
    snapshots.close()

    def torn(path: Path) -> Any:
        raise OSError(errno.EIO, "Input/output error", str(path))

    with monkeypatch.context() as patched:
        patched.setattr(checkpoint_manifest, "verify_structure", torn)
        done = host.train(checkpoint_every_steps=STEPS // 2)
    assert 0 < host.restored[0] < STEPS // 2
    assert host.restored[2].startswith(str(host.memory))
    (fault,) = host.recorder.faults
    assert (fault.step, fault.reason) == (STEPS // 2, "io_error")
    assert done.state_digest == undisturbed


def test_of_two_damaged_snapshots_and_no_checkpoint_a_new_run_is_begun(
    host: Host, undisturbed: str
) -> None:
    host.train(stop_when=host.whole(3 * EVERY))
    for name in NAMES:
        path = host.memory / name
        content = bytearray(path.read_bytes())
        content[-100] ^= 1
        path.write_bytes(content)
    done = host.train()
    assert host.restored == (0, 0, "init")
    assert {fault.fault_class for fault in host.recorder.faults} == {FaultClass.CHECKPOINT_CORRUPT}
    assert done.state_digest == undisturbed


def test_a_snapshot_that_trained_on_what_is_left_out_by_now_is_passed_over(
    host: Host, tmp_path: Path
) -> None:
    host.train(stop_when=host.whole(3 * EVERY))
    out = Entry(
        first_batch=EVERY + 1,
        last_batch=EVERY + 1,
        slots=None,
        fault_class=FaultClass.DATA_ERROR,
        decision=Omission.SKIP,
    )
    done = host.train(ledger=(out,))
    assert host.restored == (0, 0, "init")
    (tmp_path / "other").mkdir()
    assert Host(tmp_path / "other").train(ledger=(out,)).state_digest == done.state_digest


def test_a_rollback_goes_to_a_snapshot_and_forgets_the_newer_one(
    host: Host, tmp_path: Path
) -> None:
    """Back by a few steps where no checkpoint was made: the same bits as without those batches."""

    def data() -> training.Data:
        made = Batches(training.Data(LENGTH), global_batch=12, seed=0)
        return training.Data(LENGTH, spoil={int(i): "nan" for i in made.indices(5 * EVERY)})

    (tmp_path / "other").mkdir()
    done = host.train(
        data=data(),
        recorder=training.Recorder(verdict=lambda fault: Verdict.ROLLBACK, rollback_steps=EVERY),
        non_finite_microbatch=Rule(action=Verdict.RESTART, limit=0, window_s=600.0),
        non_finite_step=Rule(action=Verdict.RESTART, limit=0, window_s=600.0),
    )
    (record,) = host.recorder.all("rolled_back")
    assert Path(record.source).name in NAMES
    assert 0 < record.step <= 5 * EVERY - EVERY
    entry = Entry(
        first_batch=record.first_batch,
        last_batch=record.last_batch,
        slots=None,
        fault_class=record.fault_class,
        decision=Omission.SKIP,
    )
    other = Host(tmp_path / "other").train(data=data(), ledger=(entry,))
    assert done.state_digest == other.state_digest != ""


def test_the_next_process_loads_the_step_that_this_one_compiled(
    host: Host, undisturbed: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # Where nobody else has compiled anything.
    monkeypatch.setattr(Host, "executables", tmp_path / "executables")
    host.train(stop_when=host.whole(EVERY))

    def refused(*_: Any, **__: Any) -> Any:
        raise AssertionError("compiled again")

    monkeypatch.setattr(jax.stages.Lowered, "compile", refused)
    assert host.train().state_digest == undisturbed
    assert not list(host.executables.glob("*.tries"))


def test_no_room_for_snapshots_is_said_and_the_run_goes_on(
    host: Host, undisturbed: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(__name__ + ".ROOMY", 1000)
    assert host.train().state_digest == undisturbed
    assert host.told[-1] == (-1, 0)
    assert "no snapshots are taken in memory" in caplog.text
