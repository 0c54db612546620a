"""Runs on several hosts: real links between daemons, fake launchers and trainers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from trainerd.daemon import reach
from trainerd.daemon.refusals import reason_of
from trainerd.daemon.supervision import growing
from trainerd.v1 import control_pb2, event_pb2, fault_pb2, run_pb2
from unit.daemon.cluster import Cluster, cluster
from unit.daemon.house import Trainer, play, short_directory


@pytest.fixture
def root() -> Iterator[Path]:
    with short_directory() as path:
        yield path


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reach, "GRACE_S", 0.3)
    monkeypatch.setattr(growing, "GROW_S", 0.2)


async def running(at: Cluster, *hosts: str, least: int = 0) -> tuple[str, list[Trainer]]:
    """A run on these hosts that trains."""
    run = await at.submit(hosts=len(hosts), least=least)
    return run, await at.gang(run, *hosts)


async def fired(at: Cluster, timer: str) -> None:
    """Wait until that timer of the supervisor has fired."""
    request = control_pb2.ListEventsRequest(follow=True)
    async for response in at.at.control.ListEvents(request):
        if response.event.timer_fired.key == timer:
            return


def decisions(events: list[event_pb2.Event]) -> list[tuple[str, str]]:
    """Where and for what: the decisions that changed a run's course."""
    return [
        (
            event.host,
            fault_pb2.FaultClass.Name(getattr(event.decision_made.fault, "class")).removeprefix(
                "FAULT_CLASS_"
            ),
        )
        for event in events
        if event.HasField("decision_made")
    ]


def test_a_gang_is_told_where_it_meets_and_who_is_who(root: Path) -> None:
    async def scene() -> None:
        async with cluster(root, "a", "b") as at:
            run, _ = await running(at, "a", "b", "s")
            told = {name: host.launcher.assignment(run, 1) for name, host in at.hosts.items()} | {
                "s": at.at.launcher.assignment(run, 1)
            }
            view = await at.at.get(run)

            assert at.hosts["a"].launcher.coordinated == [(run, 1, 3)]
            assert {(each.gang.process_id, each.host) for each in told.values()} == {
                (0, "a"),
                (1, "b"),
                (2, "s"),
            }
            assert {each.gang.coordinator_address for each in told.values()} == {"fake-a:5001"}
            assert {each.gang.process_count for each in told.values()} == {3}
            for name, host in at.hosts.items():
                assert told[name].attach_address == f"unix:{host.config.daemon.attach_socket}"
            assert [(each.host, each.process, each.attached) for each in view.members] == [
                ("a", 0, True),
                ("b", 1, True),
                ("s", 2, True),
            ]

    play(scene)


def test_what_trainers_say_comes_from_their_hosts_and_orders_reach_all_of_them(
    root: Path,
) -> None:
    async def scene() -> None:
        async with cluster(root, "a", "b") as at:
            run, gang = await running(at, "a", "b")
            await gang[1].telemetry(7, loss=9.0)
            await gang[0].telemetry(7, loss=2.5)
            # One process speaks for the run: its updates are counted once.
            assert (await at.at.until(run, lambda now: now.step == 7)).loss == 2.5
            await gang[0].save(7)
            await gang[0].until_acknowledged()
            await at.at.control.PauseRun(control_pb2.PauseRunRequest(run=run, no_wait=True))
            for trainer in gang:
                await trainer.order("pause")
            events = await at.at.events(run)
            saved = next(event for event in events if event.HasField("checkpoint_saved"))
            assert saved.host == "a"

    play(scene)


def test_when_one_dies_all_are_killed_and_one_is_charged(root: Path) -> None:
    async def scene() -> None:
        async with cluster(root, "a", "b", "c") as at:
            run, gang = await running(at, "a", "b", "c", least=2)
            fault = fault_pb2.Fault(message="gloo", awaits_decision=True)
            setattr(fault, "class", fault_pb2.FAULT_CLASS_PEER_LOST)
            # A survivor notices before the launcher has said anything.
            at.hosts["b"].launcher.dies_when_killed = False
            await gang[0].report(fault_raised=event_pb2.FaultRaised(fault=fault))
            await at.hosts["b"].launcher.until(lambda fake: (run, 1) in fake.killed)
            at.hosts["b"].launcher.killed.clear()  # It died by itself.
            at.hosts["b"].launcher.exit(run, 1, exit_code=-1, signal=11)
            at.hosts["b"].launcher.dies_when_killed = True
            await at.gang(run, "a", "b", "c", incarnation=2)

            assert (run, 1) in at.hosts["a"].launcher.killed
            assert (run, 1) in at.hosts["c"].launcher.killed
            assert decisions(await at.at.events(run)) == [("b", "CRASH")]
            assert at.hosts["a"].launcher.coordinated[-1] == (run, 2, 3)

    play(scene)


@pytest.mark.parametrize(
    ("layout", "progress"),
    [
        # Each process has the whole state, so the one that speaks for the run is enough.
        (run_pb2.STATE_LAYOUT_REPLICATED, [9, 12]),
        (run_pb2.STATE_LAYOUT_SHARDED, [8, 11]),
    ],
)
def test_a_snapshot_is_progress_once_the_state_could_be_had_from_it(
    root: Path, layout: run_pb2.StateLayout, progress: list[int]
) -> None:
    async def scene() -> None:
        async with cluster(root, "a", "b") as at:
            run = await at.submit(hosts=2, state=layout)
            gang = await at.gang(run, "a", "b")

            async def says(step: int, first: int, second: int) -> None:
                # The one that speaks for the run says it last: it knows what the other said.
                await gang[1].telemetry(step, snapshot=second)
                await gang[1].enter(fault_pb2.PHASE_STEP, step)
                await gang[1].until_acknowledged()
                await gang[0].telemetry(step, snapshot=first)
                await at.at.until(run, lambda now: now.step == step)

            async def crashes(incarnation: int) -> None:
                at.hosts["a"].launcher.exit(run, incarnation, exit_code=-1, signal=9)
                gang[:] = await at.gang(run, "a", "b", incarnation=incarnation + 1)

            await crashes(1)
            await says(10, 9, 8)
            await crashes(2)
            # What the process before it had is nothing that this one has.
            await gang[0].telemetry(12, snapshot=12)
            await at.at.until(run, lambda now: now.step == 12)
            await says(13, 13, 11)

            events = await at.at.events(run)
            made = [each.progressed.step for each in events if each.HasField("progressed")]
            assert made == progress
            newest = (await at.at.get(run)).snapshot_step
            assert newest == (11 if layout == run_pb2.STATE_LAYOUT_SHARDED else 13)

    play(scene)


def test_a_daemon_that_is_away_for_a_moment_costs_nothing(root: Path) -> None:
    async def scene() -> None:
        async with cluster(root, "a", "b") as at:
            run, gang = await running(at, "a", "b")
            await at.hosts["b"].leave()
            await gang[1].until_ended()
            for step in range(5, 15):
                await gang[0].telemetry(step)
            host = await at.join("b", at.hosts["b"].launcher)
            again = await at.trainer("b", run, phase=fault_pb2.PHASE_STEP, step=20)
            gang[1] = again
            await at.at.until(run, lambda now: all(each.attached for each in now.members))

            assert host.launcher.killed == []
            assert (await at.at.get(run)).incarnation == 1
            assert decisions(await at.at.events(run)) == []

    play(scene)


def test_a_lost_host_is_done_without_and_taken_in_again(root: Path) -> None:
    async def scene() -> None:
        async with cluster(root, "a", "b", "c") as at:
            await at.at.control.DrainHost(control_pb2.DrainHostRequest(host="s"))
            run, _ = await running(at, "a", "b", "c", least=2)
            lost = at.hosts["c"]
            await lost.leave()
            fewer = await at.gang(run, "a", "b", incarnation=2)
            assert at.hosts["a"].launcher.assignment(run, 2).gang.process_count == 2
            assert decisions(await at.at.events(run)) == [("c", "HOST_LOST")]

            # It is back with a trainer that does not know that its time is over.
            assert (run, 1) in lost.launcher.live
            lost.launcher.answers_prepare = False
            await at.join("c", lost.launcher)
            await lost.launcher.until(lambda fake: (run, 1) in fake.killed)
            # They train on while its standby is prepared.
            await lost.launcher.until(lambda fake: fake.prepared == [run])
            await fired(at, f"grow:{run}:2")
            assert (await at.at.get(run)).state == run_pb2.RUN_STATE_RUNNING
            lost.launcher.answer_prepare()
            for trainer, name in zip(fewer, "ab", strict=True):
                await trainer.order("stop")
                await trainer.finish("preempted", 30)
                at.hosts[name].launcher.exit(run, 2)
            await at.gang(run, "a", "b", "c", incarnation=3)
            assert at.hosts["c"].launcher.assignment(run, 3).gang.process_count == 3

    play(scene)


def test_a_host_that_can_have_no_standby_is_taken_in_all_the_same(root: Path) -> None:
    async def scene() -> None:
        async with cluster(root, "a", "b") as at:
            await at.at.control.DrainHost(control_pb2.DrainHostRequest(host="s"))
            run, _ = await running(at, "a", "b", least=1)
            lost = at.hosts["b"]
            await lost.leave()
            (alone,) = await at.gang(run, "a", incarnation=2)
            lost.launcher.live.clear()
            lost.launcher.no_standby = "this launcher is older"
            await at.join("b", lost.launcher)
            await alone.order("stop")
            told = await at.at.until_event("standby_prepared", host="b")
            assert told.standby_prepared.problem == "this launcher is older"
            await alone.finish("preempted", 30)
            at.hosts["a"].launcher.exit(run, 2)
            await at.gang(run, "a", "b", incarnation=3)

    play(scene)


def test_a_trainer_of_a_past_incarnation_may_not_attach(root: Path) -> None:
    async def scene() -> None:
        async with cluster(root, "a", "b") as at:
            run, _ = await running(at, "a", "b")
            token = at.hosts["b"].launcher.assignment(run, 1).token
            at.hosts["b"].launcher.exit(run, 1, exit_code=3)
            await at.gang(run, "a", "b", incarnation=2)
            late = Trainer(at.hosts["b"].config.daemon.attach_socket, run, 1)
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await late.attach(token=token)
            await late.close()

            assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
            assert "is over; the present one is 2" in (refused.value.details() or "")

    play(scene)


def test_a_gang_trains_on_while_the_supervisor_is_away(root: Path) -> None:
    async def scene() -> None:
        async with cluster(root, "a", "b") as at:
            run, gang = await running(at, "a", "b")
            await at.at.restart()
            for trainer in gang:
                await trainer.until_ended()
            for name in ("a", "b"):
                await at.until(name, lambda view: view.linked)
                await at.trainer(name, run, phase=fault_pb2.PHASE_STEP, step=50)
            view = await at.at.until(run, lambda now: all(each.attached for each in now.members))

            assert view.incarnation == 1
            assert view.state == run_pb2.RUN_STATE_RUNNING
            assert at.hosts["a"].launcher.killed == at.hosts["b"].launcher.killed == []

    play(scene)


def test_a_drained_host_has_no_trainers(root: Path) -> None:
    async def scene() -> None:
        async with cluster(root, "a", "b") as at:
            run, gang = await running(at, "a", "b", least=1)
            request = control_pb2.DrainHostRequest(host="b", no_wait=True)
            assert (await at.at.control.DrainHost(request)).host.draining
            for trainer, name in zip(gang, "ab", strict=True):
                await trainer.order("stop")
                await trainer.finish("preempted", 30)
                at.hosts[name].launcher.exit(run, 1)
            await at.at.control.DrainHost(control_pb2.DrainHostRequest(host="b"))
            # The supervisor's own host takes its place.
            await at.gang(run, "a", "s", incarnation=2)
            undrained = control_pb2.UndrainHostRequest(host="b")
            assert not (await at.at.control.UndrainHost(undrained)).host.draining
            with pytest.raises(grpc.aio.AioRpcError) as unknown:
                await at.at.control.DrainHost(control_pb2.DrainHostRequest(host="x"))
            assert reason_of(unknown.value) == "HOST_NOT_FOUND"

    play(scene)


def test_a_gang_that_cannot_meet_tries_again(root: Path) -> None:
    async def scene() -> None:
        async with cluster(root, "a", "b") as at:
            at.hosts["a"].launcher.refuse_coordinator = "no port is free"
            run = await at.submit(hosts=2)
            await at.hosts["a"].launcher.until(lambda fake: len(fake.coordinated) == 1)
            at.hosts["a"].launcher.refuse_coordinator = ""
            await at.gang(run, "a", "b", incarnation=2)

            told = next(
                event.coordinator_failed.message
                for event in await at.at.events(run)
                if event.HasField("coordinator_failed")
            )
            assert told == "no port is free"

    play(scene)


def test_a_log_is_that_of_the_host_one_asks_for(root: Path) -> None:
    async def scene() -> None:
        async with cluster(root, "a", "b") as at:
            run, _ = await running(at, "a", "b")
            request = control_pb2.ReadRunLogRequest(run=run, host="b")
            assert (await at.at.control.ReadRunLog(request)).data == f"log of {run}".encode()
            request.host = "x"
            with pytest.raises(grpc.aio.AioRpcError) as unlinked:
                await at.at.control.ReadRunLog(request)
            assert reason_of(unlinked.value) == "HOST_NOT_FOUND"

    play(scene)


def test_incidents_are_kept_where_they_happened_and_read_from_everywhere(root: Path) -> None:
    async def scene() -> None:
        async with cluster(root, "a", "b") as at:
            run, _ = await running(at, "a", "b")
            at.hosts["b"].launcher.exit(run, 1, exit_code=3)
            await at.gang(run, "a", "b", incarnation=2)
            await at.hosts["b"].launcher.until(lambda fake: len(fake.incidents) == 1)
            kept = at.hosts["b"].launcher.incidents[0].incident
            listed = await at.at.control.ListIncidents(control_pb2.ListIncidentsRequest(run=run))
            found = await at.at.control.GetIncident(control_pb2.GetIncidentRequest(run=run))

            assert list(listed.incidents) == [kept]
            assert found.incident == kept
            assert at.hosts["a"].launcher.incidents == []

    play(scene)


def test_a_call_that_a_host_cannot_answer_any_more_is_told_so(root: Path) -> None:
    async def scene() -> None:
        async with cluster(root, "a") as at:
            run = await at.submit(hosts=1)
            await at.hosts["a"].launcher.until(lambda fake: fake.live)
            await at.hosts["a"].leave()
            await at.until("a", lambda view: not view.joined)
            request = control_pb2.ReadRunLogRequest(run=run, host="a")
            with pytest.raises(grpc.aio.AioRpcError) as unlinked:
                await at.at.control.ReadRunLog(request)
            assert "host a is not linked" in (unlinked.value.details() or "")
            assert (run, 1) in at.hosts["a"].launcher.live

    play(scene)


@pytest.mark.parametrize("size", [1, 2, 3, 50])
def test_step_metrics_are_put_together_from_hosts_that_were_away_at_times(
    root: Path, size: int
) -> None:
    def rows(first: int, last: int, incarnation: int) -> list[run_pb2.StepMetrics]:
        return [
            run_pb2.StepMetrics(step=step, incarnation=incarnation)
            for step in range(first, last + 1)
        ]

    async def scene() -> None:
        async with cluster(root, "a", "b") as at:
            run, _ = await running(at, "a", "b", "s")
            # The second incarnation began at step 4, without b; a was not in the third, from 9 on.
            at.hosts["a"].launcher.steps = [*rows(1, 4, 1), *rows(5, 12, 2)]
            at.hosts["b"].launcher.steps = [*rows(1, 7, 1), *rows(10, 11, 3)]
            at.at.launcher.steps = [*rows(3, 4, 1), *rows(5, 9, 2), *rows(10, 11, 3)]
            at.hosts["b"].launcher.lost_steps = 0
            request = control_pb2.ListStepMetricsRequest(run=run, page_size=size)
            got = []
            while True:
                page = await at.at.control.ListStepMetrics(request)
                got += [(each.step, each.incarnation) for each in page.steps]
                if not page.next_page_token:
                    break
                request.page_token = page.next_page_token

            made = [*rows(1, 4, 1), *rows(5, 9, 2), *rows(10, 11, 3)]
            assert got == [(each.step, each.incarnation) for each in made]
            assert (list(page.names), page.lost) == (["rate"], 3)

    play(scene)
