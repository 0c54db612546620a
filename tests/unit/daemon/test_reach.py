"""Which hosts are out of reach, and when their gangs need not wait for them any longer."""

from __future__ import annotations

import pytest

from trainerd.daemon.reach import FORMING_S, GRACE_S, JOIN_S, UNHEARD_S, Reach
from trainerd.daemon.supervision.events import (
    HostJoined,
    LauncherAttached,
    RunSubmitted,
    TrainerAttached,
)
from trainerd.daemon.supervision.faults import Phase
from trainerd.daemon.supervision.policy import Policy
from trainerd.daemon.supervision.state import State
from trainerd.daemon.supervision.supervisor import step
from trainerd.daemon.telemetry import Telemetry
from unit.daemon.gang_scene import HOSTS, Scene


def test_a_gang_that_moves_waits_for_a_host_that_is_out_of_reach() -> None:
    scene = Scene()
    scene.lose("b", at=10.0)
    for second in range(10, 60):
        scene.moved("a", float(second))
        assert scene.gone(second + 1.0) == []


def test_one_that_stands_still_does_not() -> None:
    scene = Scene()
    scene.lose("b", at=10.0)
    scene.moved("a", 11.0)

    assert scene.reach.away(scene.state)
    assert scene.gone(11.0 + GRACE_S) == []
    (event,) = scene.reach.gone(scene.state, 11.1 + GRACE_S)
    assert (event.run, event.incarnation, event.host) == ("r", 1, "b")
    assert event.waited_s == pytest.approx(GRACE_S + 0.1)
    assert GRACE_S <= event.deadline_s <= GRACE_S + 0.1


def test_long_steps_have_their_time() -> None:
    scene = Scene()
    scene.lose("b", at=10.0)
    scene.moved("a", 11.0, step_s=20.0)

    assert scene.gone(50.0) == []
    assert scene.gone(54.0) == ["b"]


def test_a_gang_that_is_not_training_yet_has_more() -> None:
    scene = Scene(phase=Phase.COMPILE)
    scene.lose("b", at=10.0)

    assert scene.gone(10.0 + FORMING_S) == []
    assert scene.gone(10.1 + FORMING_S) == ["b"]


def test_a_host_that_is_back_is_not_gone() -> None:
    scene = Scene()
    scene.lose("b", at=10.0)
    scene.take(HostJoined(host="b"))
    assert scene.gone(100.0) == ["b"]
    scene.take(LauncherAttached(instance="L", pid=1, host="b"))

    assert scene.gone(100.0) == []
    assert not scene.reach.away(scene.state)


def test_a_gang_of_which_nothing_is_heard_is_left_alone_unless_others_could_train_it() -> None:
    scene = Scene()
    scene.state = scene.state._replace(
        hosts={name: host._replace(joined=False) for name, host in scene.state.hosts.items()}
    )
    assert scene.gone(1e6) == []

    spare = Scene(hosts=("a", "b", "c"))
    spare.state = spare.state._replace(
        hosts={name: host._replace(joined=name == "c") for name, host in spare.state.hosts.items()}
    )
    assert spare.gone(UNHEARD_S) == []
    assert spare.gone(UNHEARD_S + 0.1) == ["a", "b"]


def test_hosts_that_come_back_one_by_one_have_time_to_tell_that_their_gang_moved() -> None:
    scene = Scene(hosts=("a", "b", "c"))
    scene.moved("a", 9.0)
    for host in HOSTS:
        scene.lose(host, at=10.0)
    scene.back("a", at=20.0)
    assert scene.gone(20.0 + GRACE_S) == []
    assert scene.gone(20.1 + GRACE_S) == ["b"]
    scene.moved("a", 21.0)
    assert scene.gone(20.1 + GRACE_S) == []


def test_the_only_host_without_its_launcher_is_no_matter_of_reach() -> None:
    telemetry = Telemetry()
    state = State()
    for event in (
        LauncherAttached(instance="L", pid=1),
        RunSubmitted(run="r", name="r", spec=b"", policy=Policy()),
        TrainerAttached(run="r", incarnation=1, phase=Phase.STEP, step=1),
    ):
        state, _ = step(state, event, now=0.0)
    state = state._replace(
        hosts={"": state.hosts[""]._replace(launcher=None)},
    )

    assert Reach(telemetry, started=-JOIN_S).gone(state, 1e6) == []
