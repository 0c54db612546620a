"""Dashboards as data, and the JSON that Grafana 10 and later import."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

DATASOURCE: Mapping[str, str] = {"type": "prometheus", "uid": "${datasource}"}
SCHEMA_VERSION = 38
"""Of Grafana 10.0; later releases migrate it."""
WIDTH = 24
GOOD, WARN, BAD = "green", "orange", "red"
ON_OFF: Mapping[str, tuple[str, str]] = {"0": ("no", "transparent"), "1": ("yes", GOOD)}
_ROW_HEIGHT = 1
_GRAPH: Mapping[str, Any] = {
    "drawStyle": "line",
    "lineInterpolation": "linear",
    "lineWidth": 1,
    "fillOpacity": 10,
    "showPoints": "never",
    "spanNulls": False,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """An expression of PromQL. `legend` names its series; `instant`: only their newest values."""

    expr: str
    legend: str = ""
    instant: bool = False
    heatmap: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One panel. `kind` is Grafana's, `unit` one of Grafana's standard units.

    `steps`: the colour from each value on; the first value is None. `runbook`: its page. `most`:
    the top of the axis. `values`: the text that stands for a number. `columns`: of a table, what
    its labels are called, in order.
    """

    title: str
    about: str
    queries: Sequence[Query]
    kind: str = "timeseries"
    unit: str = "short"
    width: int = 12
    height: int = 8
    steps: Sequence[tuple[float | None, str]] = ((None, GOOD),)
    stacked: bool = False
    most: float | None = None
    decimals: int | None = None
    values: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    columns: Mapping[str, str] = field(default_factory=dict)
    runbook: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Panels under one heading; they fill lines from left to right."""

    title: str
    panels: Sequence[Panel]


@dataclass(frozen=True, slots=True, kw_only=True)
class Variable:
    """A choice above the panels: the values of a label. Any number of them, all at first."""

    name: str
    label: str
    query: str
    several: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """One dashboard; its file is `<uid>.json`."""

    uid: str
    title: str
    about: str
    rows: Sequence[Row]
    variables: Sequence[Variable] = ()
    since: str = "now-6h"


RUN = Variable(name="run", label="Run", query="label_values(trainerd_run_info, run)")
ONE_RUN = Variable(
    name="run", label="Run", query="label_values(trainerd_run_info, run)", several=False
)
HOST = Variable(name="host", label="Host", query="label_values(trainerd_host_up, host)")


def to_json(board: Board, runbook: str) -> dict[str, Any]:
    """Return the dashboard as Grafana imports it; `runbook`: where its pages are."""
    return {
        "uid": board.uid,
        "title": board.title,
        "description": board.about,
        "tags": ["trainerd"],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": board.since, "to": "now"},
        "timezone": "",
        "templating": {"list": _variables(board, runbook)},
        "annotations": {"list": []},
        "links": [
            {
                "type": "dashboards",
                "title": "trainerd",
                "tags": ["trainerd"],
                "asDropdown": True,
                "includeVars": True,
                "keepTime": True,
            },
            {"type": "link", "title": "Runbook", "url": "${runbook}", "targetBlank": True},
        ],
        "panels": _panels(board.rows),
    }


def _variables(board: Board, runbook: str) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = [
        {
            "name": "datasource",
            "label": "Prometheus",
            "type": "datasource",
            "query": "prometheus",
            "refresh": 1,
        }
    ]
    for variable in board.variables:
        made.append(
            {
                "name": variable.name,
                "label": variable.label,
                "type": "query",
                "datasource": dict(DATASOURCE),
                "definition": variable.query,
                "query": {"query": variable.query, "refId": variable.name},
                # At each change of the time range: runs come and go.
                "refresh": 2,
                "sort": 2 if variable.several else 0,
                "multi": variable.several,
                "includeAll": variable.several,
                **({"current": {"text": ["All"], "value": ["$__all"]}} if variable.several else {}),
            }
        )
    made.append({"name": "runbook", "type": "constant", "hide": 2, "query": runbook})
    return made


def _panels(rows: Sequence[Row]) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = []
    top = 0
    for row in rows:
        place = {"x": 0, "y": top, "w": WIDTH, "h": _ROW_HEIGHT}
        made.append(
            {
                "id": len(made) + 1,
                "type": "row",
                "title": row.title,
                "gridPos": place,
                "collapsed": False,
                "panels": [],
            }
        )
        top += _ROW_HEIGHT
        left = tallest = 0
        for panel in row.panels:
            if left + panel.width > WIDTH:
                top, left, tallest = top + tallest, 0, 0
            place = {"x": left, "y": top, "w": panel.width, "h": panel.height}
            made.append({"id": len(made) + 1, "gridPos": place, **_panel(panel)})
            left, tallest = left + panel.width, max(tallest, panel.height)
        top += tallest
    return made


def _panel(panel: Panel) -> dict[str, Any]:
    links = []
    if panel.runbook:
        url = f"${{runbook}}/{panel.runbook}.md"
        links = [{"title": "Runbook", "url": url, "targetBlank": True}]
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.about,
        "datasource": dict(DATASOURCE),
        "targets": [_target(panel, query, place) for place, query in enumerate(panel.queries)],
        "fieldConfig": {"defaults": _defaults(panel), "overrides": []},
        "options": _options(panel),
        "transformations": _transformations(panel),
        "links": links,
    }


def _target(panel: Panel, query: Query, place: int) -> dict[str, Any]:
    instant = query.instant or panel.kind == "table"
    kind = "table" if panel.kind == "table" else "heatmap" if query.heatmap else "time_series"
    return {
        "refId": chr(ord("A") + place),
        "datasource": dict(DATASOURCE),
        "expr": query.expr,
        "legendFormat": query.legend or "__auto",
        "instant": instant,
        "range": not instant,
        "format": kind,
    }


def _defaults(panel: Panel) -> dict[str, Any]:
    defaults: dict[str, Any] = {
        "unit": panel.unit,
        "thresholds": {
            "mode": "absolute",
            "steps": [{"value": value, "color": color} for value, color in panel.steps],
        },
        "color": {"mode": "palette-classic" if panel.kind == "timeseries" else "thresholds"},
        "mappings": [],
    }
    if panel.kind == "timeseries":
        stacking = {"mode": "normal" if panel.stacked else "none", "group": "A"}
        fill = {"fillOpacity": 60} if panel.stacked else {}
        marks = {"mode": "line" if len(panel.steps) > 1 else "off"}
        defaults["custom"] = {
            **_GRAPH,
            **fill,
            "stacking": stacking,
            "thresholdsStyle": marks,
        }
        defaults["min"] = 0
    if panel.most is not None:
        defaults |= {"min": 0, "max": panel.most}
    if panel.decimals is not None:
        defaults["decimals"] = panel.decimals
    if panel.values:
        options = {
            value: {"text": text, "color": color, "index": place}
            for place, (value, (text, color)) in enumerate(panel.values.items())
        }
        defaults["mappings"] = [{"type": "value", "options": options}]
    return defaults


def _options(panel: Panel) -> dict[str, Any]:
    newest = {"calcs": ["lastNotNull"], "fields": "", "values": False}
    match panel.kind:
        case "timeseries":
            return {
                "legend": {"displayMode": "table", "placement": "bottom", "calcs": ["lastNotNull"]},
                "tooltip": {"mode": "multi", "sort": "desc"},
            }
        case "stat":
            return {"reduceOptions": newest, "colorMode": "value", "graphMode": "area"}
        case "gauge":
            return {"reduceOptions": newest, "showThresholdMarkers": True}
        case "bargauge":
            return {"reduceOptions": newest, "displayMode": "lcd", "orientation": "horizontal"}
        case "state-timeline":
            return {"mergeValues": True, "showValue": "never", "rowHeight": 0.8}
        case "heatmap":
            return {"calculate": False, "yAxis": {"unit": panel.unit}, "cellGap": 1}
        case _:
            return {}


def _transformations(panel: Panel) -> list[dict[str, Any]]:
    if panel.kind != "table":
        return []
    order = {name: place for place, name in enumerate(panel.columns)}
    hidden = dict.fromkeys(("Time", "__name__", "job", "instance"), True)
    organize = {
        "excludeByName": {name: hide for name, hide in hidden.items() if name not in order},
        "indexByName": order,
        "renameByName": dict(panel.columns),
    }
    return [
        {"id": "merge", "options": {}},
        {"id": "organize", "options": organize},
    ]
