"""The runtime: journal before acting, all or nothing, and the same state after a replay."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from trainerd.daemon import folding
from trainerd.daemon.effects import Effects
from trainerd.daemon.journal import Entry, Journal, JournalError, Stored
from trainerd.daemon.runtime import JournalFullError, Runtime
from trainerd.daemon.supervision import supervisor
from trainerd.daemon.supervision.commands import RemoveFiles, StartTimer, StartTrainer, TellTrainer
from trainerd.daemon.supervision.events import (
    CheckpointSaved,
    Event,
    FaultRaised,
    LauncherAttached,
    PauseRequested,
    RunDeleted,
    RunState,
    StopRequested,
    TrainerExited,
    TrainerResumed,
)
from trainerd.daemon.supervision.faults import Fault
from trainerd.daemon.supervision.policy import FaultClass
from trainerd.daemon.supervision.state import IllegalTransitionError, State
from trainerd.v1 import event_pb2, fault_pb2
from trainerd.v1.mailbox import MAILBOX_LIMIT, MailboxOverflow
from unit.daemon.house import play
from unit.daemon.parts import FillingJournal, ManualClock, Recorder, parts, submitted


def test_an_event_is_on_disk_before_anything_is_done_about_it(tmp_path: Path) -> None:
    async def scene() -> None:
        async with parts(tmp_path) as at:
            await at.starting_run()

            kinds = [type(command) for command in at.recorder.commands]
            assert kinds == [StartTrainer, StartTimer]
            # LauncherAttached, RunSubmitted and its two changes of state.
            assert at.recorder.on_disk == [4, 4]

    play(scene)


def test_what_waits_is_journalled_as_one_group_and_each_sender_hears_its_own(
    tmp_path: Path,
) -> None:
    async def scene() -> None:
        commits: list[float] = []
        journal = Journal(tmp_path / "j")
        runtime = Runtime(journal, ManualClock(), on_commit=commits.append)
        posts = [
            asyncio.ensure_future(runtime.post(event))
            for event in (
                LauncherAttached(instance="L", pid=1),
                submitted("a-1"),
                PauseRequested(run="x"),
                submitted("b-1"),
            )
        ]
        await asyncio.sleep(0)
        task = asyncio.create_task(runtime.run(Recorder(journal)))
        outcomes = await asyncio.gather(*posts)
        await runtime.close()
        await task
        kinds = {stored.sequence: stored.kind for stored in journal.read()}
        journal.close()

        assert len(commits) == 1
        assert [outcome.ignored for outcome in outcomes] == [
            None,
            None,
            "there is no run x",
            None,
        ]
        assert [kinds[outcome.sequence] for outcome in outcomes] == [
            "launcher_attached",
            "run_submitted",
            "pause_requested",
            "run_submitted",
        ]

    play(scene)


def test_a_replay_gives_the_same_state_and_the_observers_the_same_story(tmp_path: Path) -> None:
    async def scene() -> None:
        async with parts(tmp_path) as at:
            seen: list[Stored] = []
            at.runtime.observe(lambda stored, _: seen.append(stored))
            run = await at.running_run()
            at.clock.at = 5.0
            saved = CheckpointSaved(run=run, incarnation=1, step=3, path="/c")
            await at.runtime.post(saved, sender=(1, 4))
            await at.runtime.post(TrainerExited(run=run, incarnation=1, exit_code=3))
            await at.runtime.post(TrainerExited(run=run, incarnation=1, exit_code=3))
            await at.starting_run("b-1")
            await at.runtime.post(StopRequested(run="b-1"))
            await at.runtime.post(RunDeleted(run="b-1"))
            state = at.runtime.state
            assert at.runtime.acknowledged("", run, 1) == 4

        journal = Journal(tmp_path / "journal.sqlite")
        again = Runtime(journal, ManualClock())
        told: list[Stored] = []
        again.observe(lambda stored, _: told.append(stored))
        last = again.replay()
        journal.close()

        assert again.state == state
        assert again.acknowledged("", run, 1) == 4
        assert again.acknowledged("elsewhere", run, 1) == 0
        assert told == seen
        assert last is not None
        assert (last.sequence, last.now) == (seen[-1].sequence, 5.0)
        assert [stored.kind for stored in seen if stored.ignored] == ["trainer_exited"]

    play(scene)


def test_a_full_disk_undoes_the_group_and_is_over_when_there_is_space(tmp_path: Path) -> None:
    async def scene() -> None:
        journal = FillingJournal(tmp_path / "journal.sqlite")
        async with parts(tmp_path, journal=journal) as at:
            run = await at.running_run()
            state, commands = at.runtime.state, len(at.recorder.commands)
            seen: list[Stored] = []
            at.runtime.observe(lambda stored, _: seen.append(stored))
            journal.full = True
            resumed = TrainerResumed(run=run, incarnation=1, step=1)
            for post in (
                at.runtime.post(PauseRequested(run=run)),
                at.runtime.post(submitted("b-1")),
                at.runtime.post(resumed, sender=(1, 1)),
            ):
                with pytest.raises(JournalFullError, match="disk is full"):
                    await post
            assert at.runtime.state is state
            assert len(at.recorder.commands) == commands
            assert seen == []
            assert at.runtime.acknowledged("", run, 1) == 0

            journal.full = False
            at.clock.at += 2.5
            await at.runtime.post(PauseRequested(run=run))
            recovered = seen[0].message.journal_recovered
            assert (recovered.refused, recovered.duration_s) == (3, 2.5)
            assert "disk is full" in recovered.problem
            spared = seen[1].message.decision_made
            assert getattr(spared.fault, "class") == fault_pb2.FAULT_CLASS_JOURNAL_FULL
            assert spared.decision.action == fault_pb2.ACTION_CONTINUE
            outcome = await at.runtime.post(resumed, sender=(1, 1))
            assert not outcome.duplicate
            assert isinstance(at.recorder.commands[-1], TellTrainer)
            assert at.runtime.state.runs[run].pausing
            assert [each.kind for each in seen].count("journal_recovered") == 1

    play(scene)


def test_the_real_journal_survives_a_real_lack_of_space(tmp_path: Path) -> None:
    async def scene() -> None:
        journal = Journal(tmp_path / "journal.sqlite")
        async with parts(tmp_path, journal=journal) as at:
            run = await at.running_run()
            database = journal._db
            (pages,) = database.execute("PRAGMA page_count").fetchone()
            database.execute(f"PRAGMA max_page_count = {pages}")
            long = FaultRaised(
                run=run,
                incarnation=1,
                fault=Fault(
                    fault_class=FaultClass.CHECKPOINT_SAVE_FAILED, message="m", detail="x" * 50_000
                ),
            )
            before = at.journalled()
            with pytest.raises(JournalFullError, match="full"):
                await at.runtime.post(long)
            assert at.journalled() == before
            database.execute("PRAGMA max_page_count = 100000")
            await at.runtime.post(long)
            added = [each.WhichOneof("payload") for each in at.journalled()[len(before) :]]
            spared, asked = ["journal_recovered", "decision_made"], ["fault_raised"]
            assert added == [*spared, *asked, "decision_made"]

    play(scene)


def test_a_report_is_done_once_even_if_its_sender_gave_up_waiting(tmp_path: Path) -> None:
    async def scene() -> None:
        async with parts(tmp_path) as at:
            run = await at.running_run()
            fault = Fault(fault_class=FaultClass.CHECKPOINT_SAVE_FAILED, message="m")
            raised = FaultRaised(run=run, incarnation=1, fault=fault)
            impatient = asyncio.ensure_future(at.runtime.post(raised, sender=(1, 1)))
            await asyncio.sleep(0)
            impatient.cancel()
            again = await asyncio.gather(
                at.runtime.post(raised, sender=(1, 1)),
                at.runtime.post(raised, sender=(1, 1)),
                at.runtime.post(raised, sender=(1, 2)),
            )

            assert [outcome.duplicate for outcome in again] == [True, True, False]
            kinds = [message.WhichOneof("payload") for message in at.journalled()]
            assert kinds.count("fault_raised") == 2

    play(scene)


def test_a_full_mailbox_refuses_and_loses_nothing_that_it_took(tmp_path: Path) -> None:
    async def scene() -> None:
        journal = Journal(tmp_path / "j")
        runtime = Runtime(journal, ManualClock())
        posts = [
            asyncio.ensure_future(runtime.post(PauseRequested(run="x")))
            for _ in range(MAILBOX_LIMIT)
        ]
        await asyncio.sleep(0)
        with pytest.raises(MailboxOverflow, match=f"limit {MAILBOX_LIMIT}"):
            await runtime.post(PauseRequested(run="x"))
        task = asyncio.create_task(runtime.run(Recorder(journal)))
        outcomes = await asyncio.gather(*posts)
        await runtime.close()
        await task
        count = sum(1 for _ in journal.read())
        journal.close()

        assert len({outcome.sequence for outcome in outcomes}) == MAILBOX_LIMIT
        assert count == 2 * MAILBOX_LIMIT

    play(scene)


def test_what_waits_at_the_end_is_journalled_what_comes_later_is_refused(tmp_path: Path) -> None:
    async def scene() -> None:
        journal = Journal(tmp_path / "j")
        runtime = Runtime(journal, ManualClock())
        posts = [asyncio.ensure_future(runtime.post(PauseRequested(run="x"))) for _ in range(700)]
        await asyncio.sleep(0)
        task = asyncio.create_task(runtime.run(Recorder(journal)))
        closing = asyncio.ensure_future(runtime.close())
        await asyncio.sleep(0)
        with pytest.raises(JournalFullError, match="the daemon is ending"):
            await runtime.post(PauseRequested(run="x"))
        await asyncio.gather(*posts)
        await asyncio.gather(closing, task, runtime.close())
        journal.close()

    play(scene)


def test_a_runtime_that_dies_leaves_nobody_waiting(tmp_path: Path) -> None:
    async def scene() -> None:
        journal = Journal(tmp_path / "j")
        runtime = Runtime(journal, ManualClock())

        def defective(stored: Stored, state: State) -> None:
            raise ZeroDivisionError

        runtime.observe(defective)
        posts = [asyncio.ensure_future(runtime.post(PauseRequested(run="x"))) for _ in range(3)]
        task = asyncio.create_task(runtime.run(Recorder(journal)))
        for post in posts:
            with pytest.raises(JournalFullError, match="the daemon is ending"):
                await post
        with pytest.raises(ZeroDivisionError):
            await task
        await runtime.close()
        journal.close()

    play(scene)


@pytest.mark.parametrize("defect", [IllegalTransitionError("a → b"), KeyError("k")])
def test_a_defect_of_the_supervisor_is_a_recorded_no_op_also_at_replay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, defect: Exception
) -> None:
    real = supervisor.step

    def defective(state: State, event: Event, *, now: float) -> object:
        if isinstance(event, PauseRequested):
            raise defect
        return real(state, event, now=now)

    async def scene() -> State:
        async with parts(tmp_path) as at:
            run = await at.running_run()
            state = at.runtime.state
            outcome = await at.runtime.post(PauseRequested(run=run))
            assert outcome.ignored is not None
            assert type(defect).__name__ in outcome.ignored
            assert at.runtime.state == state
            await at.runtime.post(StopRequested(run=run))
            assert at.runtime.state.runs[run].state is RunState.STOPPING
            return at.runtime.state

    monkeypatch.setattr(folding, "step", defective)
    state = play(scene)
    journal = Journal(tmp_path / "journal.sqlite")
    again = Runtime(journal, ManualClock())
    again.replay()
    journal.close()
    assert again.state == state


def test_a_command_that_cannot_be_begun_does_not_keep_the_others(tmp_path: Path) -> None:
    class Defective(Recorder):
        def execute(self, command: object) -> None:
            super().execute(command)  # type: ignore[arg-type]
            raise KeyError(command)

    async def scene() -> None:
        journal = Journal(tmp_path / "j")
        recorder = Defective(journal)
        runtime = Runtime(journal, ManualClock())
        task = asyncio.create_task(runtime.run(recorder))
        await runtime.post(LauncherAttached(instance="L", pid=1))
        await runtime.post(submitted("a-1"))
        await runtime.post(PauseRequested(run="a-1"))
        await runtime.close()
        await task
        journal.close()

        assert len(recorder.commands) == 2

    play(scene)


def test_a_record_of_a_later_release_is_refused_with_what_to_do(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    journal.append(
        [Entry(message=event_pb2.Event(run="r"), kind="new", derived=False, now=1.0, wall=1.0)]
    )
    with pytest.raises(JournalError, match=r"record 1 \(new\) is not one that this release knows"):
        Runtime(journal, ManualClock()).replay()
    journal.close()


def test_the_history_of_a_run_is_read_page_by_page(tmp_path: Path) -> None:
    async def scene() -> None:
        async with parts(tmp_path) as at:
            run = await at.running_run()
            first = await at.runtime.history(run, 0, 2)
            rest = await at.runtime.history(run, first[-1].sequence, 100)
            everything = [each.sequence for each in at.journal.read(run=run)]

            assert [each.sequence for each in (*first, *rest)] == everything

    play(scene)


def test_timers_go_on_after_a_replay(tmp_path: Path) -> None:
    async def scene() -> None:
        async with parts(tmp_path) as at:
            run = await at.starting_run()
            fired: list[tuple[str, float]] = []

            class Timers(Effects):
                def __init__(self) -> None:
                    self._runtime = at.runtime

                def execute(self, command: object) -> None:
                    assert isinstance(command, StartTimer)
                    fired.append((command.key, command.delay_s))

            Timers().rearm(20.0)
            Timers().rearm(1000.0)
            assert fired == [(f"attach:{run}:1", 40.0), (f"attach:{run}:1", 0.0)]

    play(scene)


def test_a_deleted_run_leaves_nothing_behind(tmp_path: Path) -> None:
    async def scene() -> None:
        async with parts(tmp_path) as at:
            run = await at.running_run()
            at.telemetry.of(run)
            at.runtime.observe(at.telemetry.record)
            await at.runtime.post(TrainerResumed(run=run, incarnation=1, step=1), sender=(1, 1))
            await at.runtime.post(StopRequested(run=run))
            await at.runtime.post(TrainerExited(run=run, incarnation=1, exit_code=0))
            await at.runtime.post(RunDeleted(run=run))

            assert at.recorder.commands[-1] == RemoveFiles(run=run)
            assert at.runtime.acknowledged("", run, 1) == 0
            assert at.telemetry._pulses == {}
            assert at.runtime.state.timers == {}

    play(scene)
