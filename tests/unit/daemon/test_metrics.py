"""/metrics: the names people build dashboards on, fed by what was journalled."""

from __future__ import annotations

import asyncio
import math
import re
import shutil
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from fakes.launcher import FakeLauncher
from trainerd.daemon.checkpoint_metrics import CHECKPOINT_REASONS
from trainerd.daemon.ended_runs import KEEP_S, SETTLE_S
from trainerd.daemon.links import _Stream
from trainerd.daemon.metrics import Metrics
from trainerd.daemon.runtime import JournalFullError
from trainerd.daemon.supervision.drills import InjectedFault, Injection
from trainerd.daemon.supervision.events import (
    CheckpointSaved,
    FaultInjected,
    FaultRaised,
    InjectionRequested,
    PauseRequested,
    PhaseEntered,
    ResumeRequested,
    RolledBack,
    RunDeleted,
    StopRequested,
    TrainerExited,
    TrainerPaused,
    TrainerResumed,
)
from trainerd.daemon.supervision.faults import Fault, Phase
from trainerd.daemon.supervision.policy import Action, FaultClass
from trainerd.daemon.telemetry import Pulse
from trainerd.v1 import control_pb2, fault_pb2, trainer_pb2
from unit.daemon.house import house, play, short_directory
from unit.daemon.parts import FillingJournal, Parts, parts

# contract.md; what a later part of the project feeds is not here yet.
PROMISED = {
    "trainerd_build_info": set(),
    "trainerd_run_info": {"run", "name"},
    "trainerd_run_target_steps": {"run"},
    "trainerd_run_paused_by_fault": {"run"},
    "trainerd_time_seconds_total": {"run", "activity"},
    "trainerd_run_state": {"run", "state"},
    "trainerd_run_step": {"run"},
    "trainerd_run_loss": {"run"},
    "trainerd_steps_total": {"run"},
    "trainerd_examples_total": {"run"},
    "trainerd_step_duration_seconds": {"run", "host"},
    "trainerd_faults_total": {"run", "host", "class", "action"},
    "trainerd_step_errors_total": {"run", "class", "action"},
    "trainerd_skipped_batches_total": {"run", "class"},
    "trainerd_restarts_total": {"run", "scope", "class"},
    "trainerd_injected_faults_total": {"run", "fault"},
    "trainerd_recovery_duration_seconds": {"run", "class"},
    "trainerd_checkpoint_saves_total": {"run", "result"},
    "trainerd_checkpoint_failures_total": {"run", "reason"},
    "trainerd_checkpoint_save_duration_seconds": {"run", "phase"},
    "trainerd_checkpoint_last_success_timestamp_seconds": {"run"},
    "trainerd_checkpoint_last_durable_step": {"run"},
    "trainerd_checkpoint_consecutive_failures": {"run"},
    "trainerd_checkpoint_bytes": {"run"},
    "trainerd_checkpoint_rejected_total": {"run", "reason"},
    "trainerd_checkpoint_last_verification_timestamp_seconds": {"run"},
    "trainerd_checkpoint_on_fallback": {"run"},
    "trainerd_checkpoint_disk_bytes": {"run"},
    "trainerd_checkpoint_disk_free_bytes": {"run"},
    "trainerd_checkpoint_disk_full_timestamp_seconds": {"run"},
    "trainerd_trainer_up": {"host"},
    "trainerd_trainer_state": {"host", "state"},
    "trainerd_trainer_heartbeat_age_seconds": {"host"},
    "trainerd_trainer_memory_bytes": {"host", "kind"},
    "trainerd_host_up": {"host"},
    "trainerd_stale_events_total": {"kind"},
    "trainerd_journal_write_duration_seconds": set(),
    "trainerd_journal_write_failures_total": set(),
    "trainerd_journal_writable": set(),
    "trainerd_rpc_duration_seconds": {"method", "code"},
}


@pytest.fixture
def root() -> Iterator[Path]:
    with short_directory() as path:
        yield path


def samples(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every series, by name and sorted labels."""
    return series(generate_latest(metrics.registry).decode())


def series(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name.startswith("trainerd_")
    }


def key(name: str, **labels: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    named = {label.removesuffix("_"): value for label, value in labels.items()}
    return f"trainerd_{name}", tuple(sorted(named.items()))


def observed(at: Parts) -> None:
    at.runtime.observe(at.metrics.count)
    at.runtime.observe(at.metrics.show)


def test_every_promised_name_is_there_with_its_labels() -> None:
    text = generate_latest(Metrics("host").registry).decode()
    kinds = dict(re.findall(r"^# TYPE (trainerd_\S+) (\S+)$", text, re.MULTILINE))

    assert PROMISED.keys() == kinds.keys()
    for name in PROMISED:
        assert ("_total" in name) == (kinds[name] == "counter")
        assert ("duration_seconds" in name) == (kinds[name] == "histogram")
        assert f"# HELP {name} " in text


def test_the_series_of_a_fresh_run_start_at_zero(tmp_path: Path) -> None:
    async def scene() -> None:
        async with parts(tmp_path) as at:
            observed(at)
            run = await at.starting_run()
            told = samples(at.metrics)

            for reason in CHECKPOINT_REASONS:
                assert told[key("checkpoint_failures_total", run=run, reason=reason)] == 0
            for result in ("ok", "failed"):
                assert told[key("checkpoint_saves_total", run=run, result=result)] == 0
            for name in ("steps_total", "examples_total", "run_step"):
                assert told[key(name, run=run)] == 0
            assert told[key("checkpoint_last_durable_step", run=run)] == -1
            assert told[key("checkpoint_consecutive_failures", run=run)] == 0
            assert told[key("restarts_total", run=run, scope="process", class_="crash")] == 0
            states = {
                labels: value for (name, labels), value in told.items() if "run_state" in name
            }
            assert sum(states.values()) == 1
            assert len(states) == 9
            assert states[(("run", run), ("state", "starting"))] == 1

    play(scene)


def test_counters_follow_what_was_journalled(tmp_path: Path) -> None:
    async def scene() -> None:
        async with parts(tmp_path) as at:
            observed(at)
            run = await at.running_run()

            async def fault(fault_class: FaultClass, **fields: Any) -> None:
                the_fault = Fault(fault_class=fault_class, message="m", **fields)
                await at.runtime.post(FaultRaised(run=run, incarnation=1, fault=the_fault))

            await fault(FaultClass.NON_FINITE_STEP, batch=3, delegated=Action.SKIP)
            await fault(FaultClass.NON_FINITE_STEP, batch=4, delegated=Action.SKIP)
            await fault(FaultClass.CHECKPOINT_SAVE_FAILED, reason="no_space")
            await fault(FaultClass.CHECKPOINT_SAVE_FAILED, reason="the moon")
            told = samples(at.metrics)
            assert told[key("checkpoint_consecutive_failures", run=run)] == 2
            saved = CheckpointSaved(
                run=run, incarnation=1, step=7, path="/c", bytes=99, blocked_s=0.1, duration_s=2.0
            )
            await at.runtime.post(saved)
            await at.runtime.post(PhaseEntered(run=run, incarnation=1, phase=Phase.SAVE))
            held = samples(at.metrics)
            await at.runtime.post(TrainerExited(run=run, incarnation=1, exit_code=3))
            await at.runtime.post(TrainerExited(run=run, incarnation=1, exit_code=3))
            await at.runtime.post(PauseRequested(run="x"))
            told = samples(at.metrics)

            skip = {"run": run, "class_": "non_finite_step"}
            assert told[key("skipped_batches_total", **skip)] == 2
            assert told[key("step_errors_total", action="skip", **skip)] == 2
            assert told[key("faults_total", action="skip", host="host", **skip)] == 2
            assert told[key("checkpoint_failures_total", run=run, reason="no_space")] == 1
            assert told[key("checkpoint_failures_total", run=run, reason="unknown")] == 1
            assert told[key("checkpoint_saves_total", run=run, result="failed")] == 2
            assert told[key("checkpoint_saves_total", run=run, result="ok")] == 1
            assert told[key("checkpoint_consecutive_failures", run=run)] == 0
            assert told[key("checkpoint_last_durable_step", run=run)] == 7
            assert told[key("checkpoint_bytes", run=run)] == 99
            assert told[key("checkpoint_last_success_timestamp_seconds", run=run)] == 1000.0
            spent = "checkpoint_save_duration_seconds_sum"
            assert told[key(spent, run=run, phase="background")] == 2.0
            assert told[key("restarts_total", run=run, scope="process", class_="crash")] == 1
            assert told[key("run_state", run=run, state="recovering")] == 1
            assert held[key("trainer_up", host="host")] == 1
            assert held[key("trainer_state", host="host", state="save")] == 1
            assert told[key("trainer_up", host="host")] == 0
            assert told[key("trainer_state", host="host", state="save")] == 0
            assert told[key("host_up", host="host")] == 1
            # The second exit is late news; a client's refused request is not.
            stale = {labels: n for (name, labels), n in told.items() if "stale" in name and n}
            assert stale == {(("kind", "TrainerExited"),): 1}

    play(scene)


def test_what_is_kept_and_free_is_told_and_when_the_disk_is_full(tmp_path: Path) -> None:
    async def scene() -> None:
        async with parts(tmp_path) as at:
            observed(at)
            run = await at.running_run()
            for number in range(4):
                saved = CheckpointSaved(
                    run=run,
                    incarnation=1,
                    step=number,
                    path="/c",
                    fallback=number == 3,
                    coalesced=number,
                    disk_bytes=70,
                    disk_free_bytes=1000 - 100 * number,
                )
                await at.runtime.post(saved)
            told = samples(at.metrics)
            assert told[key("checkpoint_saves_total", run=run, result="coalesced")] == 6
            assert told[key("checkpoint_on_fallback", run=run)] == 1
            assert told[key("checkpoint_disk_bytes", run=run)] == 70
            assert told[key("checkpoint_disk_free_bytes", run=run)] == 700
            # One sample of the fallback's disk says nothing about the other.
            assert told[key("checkpoint_disk_full_timestamp_seconds", run=run)] == math.inf

    play(scene)


def test_a_fault_that_sums_up_failed_saves_is_not_counted_as_one(tmp_path: Path) -> None:
    async def scene() -> None:
        async with parts(tmp_path) as at:
            observed(at)
            run = await at.running_run()
            for question in (0, 9):
                fault = Fault(
                    fault_class=FaultClass.CHECKPOINT_SAVE_FAILED,
                    message="m",
                    reason="no_space",
                    awaits_decision=question > 0,
                )
                event = FaultRaised(run=run, incarnation=1, fault=fault, question=question)
                await at.runtime.post(event)
            told = samples(at.metrics)
            assert told[key("checkpoint_failures_total", run=run, reason="no_space")] == 1
            assert told[key("checkpoint_consecutive_failures", run=run)] == 1

    play(scene)


def test_news_of_a_past_incarnation_changes_no_metric_but_its_own(tmp_path: Path) -> None:
    async def scene() -> None:
        async with parts(tmp_path) as at:
            observed(at)
            run = await at.running_run()
            before = samples(at.metrics)
            for event in (
                CheckpointSaved(run=run, incarnation=9, step=7, path="/c"),
                TrainerExited(run=run, incarnation=9, exit_code=3),
                PhaseEntered(run="x-1", incarnation=1, phase=Phase.SAVE),
                FaultRaised(
                    run="x-1",
                    incarnation=1,
                    fault=Fault(fault_class=FaultClass.CHECKPOINT_SAVE_FAILED, message="m"),
                ),
            ):
                await at.runtime.post(event)
            after = samples(at.metrics)

            changed = {name for name in after if after[name] != before.get(name)}
            # How long the commits took is the disk's affair.
            journal = {name for name in changed if name[0].startswith("trainerd_journal_write_")}
            assert changed - journal == {
                key("stale_events_total", kind=kind)
                for kind in ("CheckpointSaved", "TrainerExited", "PhaseEntered", "FaultRaised")
            }

    play(scene)


def test_the_series_of_a_deleted_run_go_away(tmp_path: Path) -> None:
    async def scene() -> None:
        async with parts(tmp_path) as at:
            observed(at)
            kept, run = await at.starting_run("b-1"), await at.starting_run("a-1")
            await at.runtime.post(StopRequested(run=run))
            report = trainer_pb2.StepReport(step=3, durations_s=[0.1])
            at.metrics.step_report(run, report, Pulse())
            at.metrics.step_durations(run, report, "")
            at.metrics.recovered(run, "crash", 1.0)
            await at.runtime.post(RunDeleted(run=kept))
            assert any(("run", run) in labels for _, labels in samples(at.metrics))
            await at.runtime.post(RunDeleted(run=run))
            told = samples(at.metrics)

            assert not any(("run", run) in labels for _, labels in told)
            assert told[key("run_state", run=kept, state="starting")] == 1

    play(scene)


def test_every_applied_update_is_counted_however_few_reports_tell_of_it() -> None:
    metrics, pulse = Metrics("host"), Pulse()

    def report(step: int, durations: int) -> float:
        message = trainer_pb2.StepReport(step=step, durations_s=[0.1] * durations, examples=8)
        pulse.step_report(message, now=1.0)
        metrics.step_report("r", message, pulse)
        metrics.step_durations("r", message, "")
        return samples(metrics)[key("steps_total", run="r")]

    assert report(1000, 2) == 2  # The daemon is new: who knows what it missed.
    assert report(1003, 3) == 5
    assert report(2003, 256) == 1005  # Only the newest 256 durations are listed.
    assert report(1500, 4) == 1009  # A restart: the step goes back, the work is work.
    assert samples(metrics)[key("run_step", run="r")] == 1500
    assert samples(metrics)[key("step_duration_seconds_count", run="r", host="host")] == 265


def test_a_restarted_daemon_shows_what_its_journal_knows(root: Path) -> None:
    async def scene() -> None:
        async with house(root) as at:
            run = await at.submit()
            trainer = await at.training(run)
            await trainer.save(4)
            await trainer.until_acknowledged()
        async with house(root, metrics="127.0.0.1:0") as at:
            told = series(fetch(at.metrics_address))
            assert told[key("checkpoint_last_durable_step", run=run)] == 4
            assert told[key("run_step", run=run)] == 4
            assert told[key("checkpoint_bytes", run=run)] == 10
            assert told[key("checkpoint_last_success_timestamp_seconds", run=run)] > 1.7e9
            assert told[key("run_state", run=run, state="running")] == 1
            assert told[key("run_state", run=run, state="queued")] == 0

    play(scene)


def test_what_the_journal_counts_is_counted_on_by_the_next_daemon(root: Path) -> None:
    async def scene() -> None:
        launcher = FakeLauncher()
        async with house(root, launcher, metrics="127.0.0.1:0") as at:
            run = await at.submit()
            trainer = await at.training(run)
            await trainer.save(4)
            await trainer.fault("checkpoint_save_failed", reason="no_space")
            await trainer.fault("non_finite_step", batch=5, delegated="ACTION_SKIP")
            await trainer.until_acknowledged()
            before = lasting(fetch(at.metrics_address))
        async with house(root, launcher, metrics="127.0.0.1:0") as at:
            after = lasting(fetch(at.metrics_address))
            assert after == before
            host = {"run": run, "host": socket.gethostname()}
            assert after[faults(**host, class_="non_finite_step", action="skip")] == 1
            assert after[key("checkpoint_saves_total", run=run, result="ok")] == 1
            again = await at.trainer(run, phase=fault_pb2.PHASE_STEP, step=5)
            again.sequence = trainer.sequence
            await again.save(8)
            await again.until_acknowledged()
            after = lasting(fetch(at.metrics_address))
            assert after[key("checkpoint_saves_total", run=run, result="ok")] == 2

    play(scene)


def test_a_daemon_that_was_killed_is_a_fault_and_one_that_ended_is_none(root: Path) -> None:
    async def scene() -> None:
        launcher = FakeLauncher()

        async def counted() -> float:
            async with house(root, launcher, metrics="127.0.0.1:0") as at:
                if not launcher.started:
                    await at.training(await at.submit())
                told = series(fetch(at.metrics_address))
                host = {"run": launcher.started[0].run, "host": socket.gethostname()}
                return told.get(faults(**host, class_="daemon_crash", action="continue"), 0)

        assert [await counted(), await counted()] == [0, 0]
        with pytest.raises(ZeroDivisionError):
            async with house(root, launcher):
                raise ZeroDivisionError  # No end in order.
        assert [await counted(), await counted()] == [1, 1]

    play(scene)


def test_requests_to_go_are_faults_that_cost_nothing(root: Path) -> None:
    async def scene() -> None:
        async with house(root, metrics="127.0.0.1:0") as at:
            run = await at.submit()
            trainer = await at.training(run)
            await at.control.RestartRun(control_pb2.RestartRunRequest(run=run, no_wait=True))
            await trainer.finish("preempted", 4)
            await trainer.until_acknowledged()
            at.launcher.exit(run, 1)
            trainer = await at.training(run, 2)
            await trainer.finish("preempted", 8)
            await trainer.until_acknowledged()
            at.launcher.exit(run, 2)
            await at.training(run, 3)

            told = series(fetch(at.metrics_address))
            host = {"run": run, "host": socket.gethostname()}
            for fault_class in ("voluntary", "preemption"):
                assert told[faults(**host, class_=fault_class, action="restart")] == 1
                restarts = key("restarts_total", run=run, scope="process", class_=fault_class)
                assert told[restarts] == 1
            assert told[key("restarts_total", run=run, scope="process", class_="crash")] == 0
            view = await at.get(run)
            assert view.restarts == 0
            assert not view.HasField("last_fault")

    play(scene)


def test_a_journal_that_cannot_be_written_shows_at_once(tmp_path: Path) -> None:
    async def scene() -> None:
        journal = FillingJournal(tmp_path / "journal.sqlite")
        async with parts(tmp_path, journal=journal) as at:
            observed(at)
            run = await at.running_run()
            assert samples(at.metrics)[("trainerd_journal_writable", ())] == 1
            journal.full = True
            with pytest.raises(JournalFullError):
                await at.runtime.post(PauseRequested(run=run))
            told = samples(at.metrics)
            assert told[("trainerd_journal_writable", ())] == 0
            assert told[("trainerd_journal_write_failures_total", ())] == 1

            journal.full = False
            await at.runtime.post(PauseRequested(run=run))
            told = samples(at.metrics)
            assert told[("trainerd_journal_writable", ())] == 1
            assert told[faults(run=run, host="host", class_="journal_full", action="continue")] == 1

    play(scene)


def lasting(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """The counters of runs that the journal feeds."""
    fed = ("faults", "step_errors", "skipped_batches", "restarts", "checkpoint_saves")
    names = {f"trainerd_{name}_total" for name in (*fed, "checkpoint_failures")}
    return {place: value for place, value in series(text).items() if place[0] in names}


def faults(**labels: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    return key("faults_total", **labels)


def fetch(address: str) -> str:
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=5) as answer:
        return str(answer.read().decode())


async def lived(root: Path) -> str:
    """/metrics of a daemon that has seen a bit of everything."""
    async with house(root, metrics="127.0.0.1:0") as at:
        run = await at.submit()
        trainer = await at.training(run)
        await trainer.telemetry(4, loss=2.5, durations_s=4)
        await trainer.save(4)
        await trainer.fault("checkpoint_save_failed", reason="no_space")
        await trainer.fault("non_finite_step", batch=5, delegated="ACTION_SKIP")
        await trainer.until_acknowledged()
        at.launcher.exit(run, 1, exit_code=3)
        again = await at.training(run, 2)
        await again.telemetry(5)
        await at.until(run, lambda now: now.step == 5)
        request = control_pb2.GetRunRequest(run="x")
        with pytest.raises(Exception, match="there is no run"):
            await at.control.GetRun(request)
        # A call is counted when it is over, which its caller may know before the daemon does.
        counted = key("rpc_duration_seconds_count", method="GetRun", code="NOT_FOUND")
        async with asyncio.timeout(10):
            while not series(told := fetch(at.metrics_address)).get(counted):
                await asyncio.sleep(0.01)
        return told


def test_telemetry_recovery_and_calls_are_measured(root: Path) -> None:
    async def scene() -> None:
        told = series(await lived(root))
        (run,) = {dict(labels)["run"] for name, labels in told if name == "trainerd_run_step"}

        assert told[key("run_step", run=run)] == 5
        assert told[key("steps_total", run=run)] == 5
        assert told[key("examples_total", run=run)] == 40
        assert told[key("recovery_duration_seconds_count", run=run, class_="crash")] == 1
        assert told[key("rpc_duration_seconds_count", method="GetRun", code="NOT_FOUND")] == 1
        assert told[key("rpc_duration_seconds_count", method="SubmitRun", code="OK")] == 1
        assert told[("trainerd_journal_write_duration_seconds_count", ())] > 5

    play(scene)


def test_promtool_finds_nothing_to_say_about_the_metrics(root: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not on PATH (Debian: apt-get install prometheus)")

    async def scene() -> str:
        return await lived(root)

    checked = subprocess.run(
        [promtool, "check", "metrics"],
        input=play(scene),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_rollbacks_and_faults_on_purpose_are_counted(tmp_path: Path) -> None:
    async def scene() -> None:
        async with parts(tmp_path) as at:
            observed(at)
            at.runtime.observe(at.telemetry.record)
            run = await at.running_run()
            await at.runtime.post(CheckpointSaved(run=run, incarnation=1, step=5, path="/c/5"))
            wanted = Injection(fault=InjectedFault.NAN, step=7)
            await at.runtime.post(InjectionRequested(run=run, injection=wanted))
            await at.runtime.post(
                FaultInjected(
                    run=run, incarnation=1, injection=1, step=7, batch=7, fault=InjectedFault.NAN
                )
            )
            spent = Fault(
                fault_class=FaultClass.NON_FINITE_STEP,
                message="3 in a row",
                step=7,
                batch=9,
                delegated=Action.SKIP,
                awaits_decision=True,
            )
            at.telemetry.of(run).step = 7
            await at.runtime.post(FaultRaised(run=run, incarnation=1, fault=spent, question=4))
            await at.runtime.post(
                RolledBack(
                    run=run,
                    incarnation=1,
                    from_step=7,
                    step=5,
                    first_batch=5,
                    last_batch=9,
                    source="/c/5",
                    fault_class=FaultClass.NON_FINITE_STEP,
                )
            )
            at.clock.at += 3.0
            report = trainer_pb2.StepReport(step=8, loss=1.0, durations_s=[0.1] * 3)
            at.links._step_report(report, _Stream(run, "", 1))
            told = samples(at.metrics)

            name = "non_finite_step"
            assert told[key("injected_faults_total", run=run, fault="nan")] == 1
            assert told[key("restarts_total", run=run, scope="rollback", class_=name)] == 1
            assert told[key("checkpoint_last_durable_step", run=run)] == 5
            assert told[key("run_step", run=run)] == 8
            labels = {"run": run, "class_": name}
            assert told[key("recovery_duration_seconds_count", **labels)] == 1
            assert told[key("recovery_duration_seconds_sum", **labels)] == 3
            # Three updates were applied after it, not one.
            assert told[key("steps_total", run=run)] == 3

    play(scene)


def test_of_a_run_that_has_ended_what_became_of_it_stays_for_a_day(tmp_path: Path) -> None:
    async def scene() -> None:
        async with parts(tmp_path) as at:
            observed(at)
            kept, run = await at.starting_run("b-1"), await at.starting_run("a-1")
            await at.runtime.post(StopRequested(run=run))
            ended = at.clock.wall()

            def names(run: str) -> set[str]:
                return {name for name, labels in samples(at.metrics) if ("run", run) in labels}

            at.metrics.expire(ended + SETTLE_S)
            assert names(run) == names(kept) - {"trainerd_time_seconds_total"}
            at.metrics.expire(ended + SETTLE_S + 1)
            assert names(run) == {
                f"trainerd_{name}"
                for name in (
                    "run_info",
                    "run_state",
                    "run_step",
                    "run_target_steps",
                    "steps_total",
                    "examples_total",
                    "checkpoint_last_durable_step",
                )
            }
            at.metrics.expire(ended + KEEP_S + 1)
            assert names(run) == set()
            assert samples(at.metrics)[key("run_state", run=kept, state="starting")] == 1

    play(scene)


def test_a_run_that_its_policy_holds_is_told_from_one_that_somebody_paused(tmp_path: Path) -> None:
    async def scene() -> None:
        async with parts(tmp_path) as at:
            observed(at)
            run = await at.running_run()
            held = key("run_paused_by_fault", run=run)
            await at.runtime.post(PauseRequested(run=run))
            await at.runtime.post(TrainerPaused(run=run, incarnation=1, step=4))
            assert samples(at.metrics)[key("run_state", run=run, state="paused")] == 1
            assert samples(at.metrics)[held] == 0
            await at.runtime.post(ResumeRequested(run=run))
            await at.runtime.post(TrainerResumed(run=run, incarnation=1, step=4))
            unsaved = Fault(
                fault_class=FaultClass.CHECKPOINT_SAVE_FAILED,
                message="the last state is not durable",
                phase=Phase.SAVE,
                awaits_decision=True,
            )
            await at.runtime.post(FaultRaised(run=run, incarnation=1, fault=unsaved, question=9))
            await at.runtime.post(PhaseEntered(run=run, incarnation=1, phase=Phase.PAUSED))
            assert samples(at.metrics)[key("run_state", run=run, state="paused")] == 1
            assert samples(at.metrics)[held] == 1

    play(scene)
