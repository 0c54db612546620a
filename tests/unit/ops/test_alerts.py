"""What operators are given hangs together: alerts, their tests, their pages, the dashboards."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import Counter, generate_latest

import dashboards
from panels import to_json
from trainerd.clients.arguments import parser as trainerctl_parser
from trainerd.daemon.metrics import Metrics
from trainerd.daemon.tls import TlsMetrics

ROOT = Path(__file__).resolve().parents[3]
PROMETHEUS = ROOT / "ops" / "prometheus"
RUNBOOK = ROOT / "ops" / "docs" / "runbook"
RULES = [
    rule
    for name in ("alerts.yml", "recording.yml")
    for group in yaml.safe_load((PROMETHEUS / name).read_text())["groups"]
    for rule in group["rules"]
]
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
RECORDED = {rule["record"] for rule in RULES if "record" in rule}
PAGES = {path.stem for path in RUNBOOK.glob("*.md")} - {"README"}
OF_OTHERS = {"process_resident_memory_bytes", "process_cpu_seconds_total"}


def page_of(alert: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "-", alert.removeprefix("Trainerd")).lower()


def expressions() -> Iterator[tuple[str, str]]:
    """Every expression there is, and where it is from."""
    for rule in RULES:
        yield rule.get("alert") or rule["record"], rule["expr"]
    for board in dashboards.BOARDS:
        for row in board.rows:
            for panel in row.panels:
                for query in panel.queries:
                    yield f"{board.title}: {panel.title}", query.expr


def every_metric() -> str:
    """What a daemon with all it can have has on /metrics."""
    registry = Metrics("host").registry
    TlsMetrics(registry)
    # `ControlPlane` makes it with everything else that it is.
    Counter("trainerd_audit_write_failures", "as there", registry=registry)
    return generate_latest(registry).decode()


def test_every_alert_has_its_page_and_every_page_its_alert() -> None:
    assert {page_of(alert) for alert in ALERTS} == PAGES
    index = (RUNBOOK / "README.md").read_text()
    for alert in ALERTS:
        text = (RUNBOOK / f"{page_of(alert)}.md").read_text()
        assert text.startswith(f"# {alert}\n")
        assert "## What to look at" in text
        assert "## What to do" in text
        assert f"| {alert} | [{page_of(alert)}]({page_of(alert)}.md) |" in index


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_says_how_bad_it_is_what_it_is_and_where_to_read_on(alert: str) -> None:
    rule = ALERTS[alert]
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
    link = "{{ $externalLabels.trainerd_runbook }}/" + page_of(alert) + ".md"
    assert rule["annotations"]["runbook_url"] == link


def test_every_alert_is_seen_to_fire_and_to_stay_quiet() -> None:
    fires, quiet = set(), set()
    for path in (PROMETHEUS / "tests").glob("*.yml"):
        for test in yaml.safe_load(path.read_text())["tests"]:
            for case in test["alert_rule_test"]:
                (fires if case["exp_alerts"] else quiet).add(case["alertname"])
    assert fires == quiet == ALERTS.keys()


def test_expressions_ask_for_series_that_there_are() -> None:
    text = every_metric()
    known = {"up", "ALERTS"} | RECORDED | OF_OTHERS
    for name, kind in re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE):
        known.add(name)
        if kind == "histogram":
            known |= {f"{name}_bucket", f"{name}_sum", f"{name}_count"}
    for place, expression in expressions():
        asked = set(re.findall(r"\b(?:trainerd|process)[\w:]*\w", _bare(expression)))
        assert asked <= known, place
    assert any("trainerd_time_seconds_total" in expression for _, expression in expressions())


def _bare(expression: str) -> str:
    return re.sub(r'"[^"]*"', "", expression)


def test_every_metric_is_on_a_dashboard_or_in_an_alert() -> None:
    text = every_metric()
    names = re.findall(r"^# TYPE (trainerd_\S+) ", text, re.MULTILINE)
    asked = " ".join(expression for _, expression in expressions())
    assert [name for name in names if name not in asked] == []


def test_links_of_dashboards_lead_to_pages() -> None:
    for board in dashboards.BOARDS:
        for row in board.rows:
            for panel in row.panels:
                assert not panel.runbook or panel.runbook in PAGES | {"README"}, panel.title


def test_dashboards_can_be_imported_anywhere() -> None:
    uids = set()
    for board in dashboards.BOARDS:
        made = to_json(board, "https://r")
        uids.add(made["uid"])
        variables = {each["name"] for each in made["templating"]["list"]}
        assert {"datasource", "runbook"} <= variables
        panels = [panel for panel in made["panels"] if panel["type"] != "row"]
        ids = [panel["id"] for panel in made["panels"]]
        assert len(ids) == len(set(ids))
        for panel in panels:
            assert panel["datasource"]["uid"] == "${datasource}"
            assert panel["description"]
            assert panel["fieldConfig"]["defaults"]["unit"]
            for target in panel["targets"]:
                used = set(re.findall(r"\$(\w+)", target["expr"])) - {"__rate_interval"}
                assert used <= variables, panel["title"]
        _check_grid(made["panels"])
    assert len(uids) == len(dashboards.BOARDS)


def _check_grid(panels: list[dict[str, Any]]) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells


def test_the_committed_dashboards_are_fresh() -> None:
    assert dashboards.stale(ROOT / "ops" / "grafana") == []


def test_a_dashboard_that_differs_or_is_nobodys_is_stale(tmp_path: Path) -> None:
    for board in dashboards.BOARDS:
        (tmp_path / f"{board.uid}.json").write_text(dashboards.text(board))
    assert dashboards.stale(tmp_path) == []
    (tmp_path / "trainerd-run.json").write_text("{}")
    (tmp_path / "other.json").write_text("{}")
    (tmp_path / "trainerd-fleet.json").unlink()
    assert dashboards.stale(tmp_path) == [
        "other.json",
        "trainerd-fleet.json",
        "trainerd-run.json",
    ]


@pytest.mark.parametrize("page", sorted(PAGES | {"README"}))
def test_a_page_names_commands_and_files_that_exist(page: str) -> None:
    text = (RUNBOOK / f"{page}.md").read_text()
    fenced = "\n".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL))
    lines = fenced.splitlines() + re.findall(r"`(trainerctl [^`]+)`", text)
    for line in lines:
        words = shlex.split(line, comments=True)
        if words and words[0] == "trainerctl":
            _parsed(words[1:])
    for link in re.findall(r"\]\(([^)#]+)\)", text):
        assert (RUNBOOK / link).exists(), link


def _parsed(words: list[str]) -> argparse.Namespace:
    return trainerctl_parser("0").parse_args(words)
