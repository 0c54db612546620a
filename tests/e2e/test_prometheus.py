"""What operators look at, on a real run: every panel shows something, every rule is evaluated."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

import dashboards
from e2e.host import Host, eventually, host
from e2e.prometheus import RATE_INTERVAL, Api, prometheus
from panels import Board
from trainerd.clients import NotFound
from trainerd.v1 import inject_pb2, run_pb2

pytestmark = pytest.mark.e2e

_I = inject_pb2
NOT_HERE = {
    "Until a certificate expires": "this daemon serves no TCP, so it has no certificate",
    "Changed certificates that cannot be used": "the same",
}
"""Panels that cannot show anything on this host, and why."""


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Host, Api, str, str]]:
    """A host after a run with faults of many kinds and one that failed, and who watched them."""
    folder = tmp_path_factory.mktemp("prometheus")
    with host(injection=True) as made, prometheus(folder, made.metrics_address) as api:
        trained, failed = _lived(made)
        yield made, api, trained, failed


def _lived(at: Host) -> tuple[str, str]:
    """Skips, a rollback, a kill, a pause, a verification; and a run that waits, and then fails."""
    spec = at.spec("lived", steps=240, args={"pace_s": 0.001}, evaluate_every_steps=80)
    spec.policy.backoff_max_s = 0.01
    for fault, step, times in (
        (_I.INJECTED_FAULT_NAN, 30, 1),
        (_I.INJECTED_FAULT_NAN, 90, 3),
        (_I.INJECTED_FAULT_SIGKILL, 150, 1),
    ):
        spec.inject.faults.add(fault=fault, step=step, times=times)
    trained = at.submit(spec)
    at.until(trained, lambda now: now.step > 0)
    failed = at.submit(at.spec("fails", args={"raise_in_build": True}))
    at.until(trained, lambda now: now.step >= 40)
    with at.client() as client:
        with pytest.raises(NotFound):
            client.get_run("nobody")
        client.pause_run(trained)
        client.resume_run(trained)
        client.verify_checkpoints(trained)
    at.until(trained, lambda now: now.restarts > 0 and now.state == run_pb2.RUN_STATE_RUNNING)
    at.completed(trained)
    at.failed(failed)
    return trained, failed


def _substituted(expression: str, variables: dict[str, str]) -> str:
    """As Grafana would: more values than one become an alternative."""
    for name, value in {**variables, "__rate_interval": RATE_INTERVAL}.items():
        expression = expression.replace(f"${name}", value)
    assert "$" not in expression
    return expression


@pytest.mark.parametrize("board", dashboards.BOARDS, ids=lambda board: board.uid)
def test_every_panel_shows_something(told: tuple[Host, Api, str, str], board: Board) -> None:
    _, api, trained, failed = told
    hosts = [labels["host"] for labels in api.series("trainerd_host_up")]
    every = {"run": f"({trained}|{failed})", "host": f"({'|'.join(map(re.escape, hosts))})"}
    variables = {v.name: every[v.name] if v.several else trained for v in board.variables}
    empty = [
        f"{panel.title}: {query.expr}"
        for row in board.rows
        for panel in row.panels
        for query in panel.queries
        if panel.title not in NOT_HERE
        and not api.series(
            _substituted(query.expr, variables), instant=query.instant or panel.kind == "table"
        )
    ]
    assert empty == []


def test_the_variables_offer_what_there_is(told: tuple[Host, Api, str, str]) -> None:
    _, api, trained, failed = told
    offered = {}
    for board in dashboards.BOARDS:
        for variable in board.variables:
            asked = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable.query)
            assert asked is not None
            offered[variable.name] = {each[asked[2]] for each in api.series(asked[1])}
    assert offered["run"] == {trained, failed}
    assert len(offered["host"]) == 1


def test_every_rule_is_evaluated_and_what_is_recorded_is_there(
    told: tuple[Host, Api, str, str],
) -> None:
    _, api, _, _ = told
    assert {name: wrong for name, wrong in api.rules().items() if wrong} == {}
    recorded = [name for name in api.rules() if ":" in name]
    assert len(recorded) == 8
    assert [name for name in recorded if not api.series(name)] == []
    eventually("the alert fires", lambda: "TrainerdRunFailed" in api.firing(), 10.0)


def test_the_time_of_a_run_is_whole_whatever_befell_it(told: tuple[Host, Api, str, str]) -> None:
    at, _, trained, failed = told
    for run in (trained, failed):
        spent_s, lived_s = at.times(run)
        assert abs(sum(spent_s.values()) - lived_s) <= 0.01 * lived_s
    spent_s, _ = at.times(trained)
    # The devices were free when it came.
    assert {activity for activity, seconds in spent_s.items() if not seconds} <= {"queued"}
    assert at.times(failed)[0]["queued"] > 1.0
