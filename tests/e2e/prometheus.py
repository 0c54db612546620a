"""A real Prometheus that scrapes one daemon, and what a test asks of it."""

from __future__ import annotations

import json
import math
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from e2e.host import eventually

RULES = Path(__file__).resolve().parents[2] / "ops" / "prometheus"
SCRAPE_S = 0.5
RATE_INTERVAL = f"{4 * SCRAPE_S:g}s"
"""What Grafana puts for `$__rate_interval` where a pixel is no longer than a scrape."""
END_S = 30.0
_CONFIG = """\
global:
  scrape_interval: 500ms
  scrape_timeout: 500ms
  evaluation_interval: 500ms
  external_labels: {{trainerd_runbook: "https://runbook.test"}}
rule_files: ["{rules}/recording.yml", "{rules}/alerts.yml"]
scrape_configs:
  - job_name: trainerd
    static_configs: [targets: ["{target}"]]
"""


class Api:
    """Prometheus' HTTP API."""

    def __init__(self, address: str) -> None:
        self._address = address
        self.began = time.time()

    def get(self, path: str, **parameters: object) -> Any:
        """The data of an answer; an error fails the test with what Prometheus says."""
        query = urllib.parse.urlencode(parameters)
        try:
            with urllib.request.urlopen(f"{self._address}/api/v1/{path}?{query}", timeout=10) as at:
                return json.load(at)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{parameters}: {error.read().decode()}") from error

    def series(self, expression: str, *, instant: bool = False) -> list[dict[str, str]]:
        """The labels of the series that an expression gives, of those that have a value at all.

        Over the time since Prometheus began; `instant`: at its end.
        """
        end = time.time()
        if instant:
            found = self.get("query", query=expression, time=end)["result"]
            return [each["metric"] for each in found if _has_value([each["value"]])]
        found = self.get("query_range", query=expression, start=self.began, end=end, step="1s")
        return [each["metric"] for each in found["result"] if _has_value(each["values"])]

    def rules(self) -> Mapping[str, str]:
        """What is wrong with each rule; empty: nothing, it is evaluated."""
        return {
            rule["name"]: rule.get("lastError", "") or ("" if rule["health"] == "ok" else "unknown")
            for group in self.get("rules")["groups"]
            for rule in group["rules"]
        }

    def firing(self) -> set[str]:
        """The alerts that fire."""
        alerts = self.get("alerts")["alerts"]
        return {each["labels"]["alertname"] for each in alerts if each["state"] == "firing"}

    def ready(self) -> bool:
        """Whether it answers."""
        try:
            with urllib.request.urlopen(f"{self._address}/-/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


@contextmanager
def prometheus(folder: Path, target: str) -> Iterator[Api]:
    """Prometheus with this project's rules, in a folder of its own."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("prometheus is not on PATH (Debian: apt-get install prometheus)")
    config = folder / "prometheus.yml"
    config.write_text(_CONFIG.format(rules=RULES, target=target))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        *(program, f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}"),
        *(f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn"),
    ]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        api = Api(f"http://127.0.0.1:{port}")
        eventually("Prometheus answers", api.ready, END_S)
        yield api
    finally:
        process.terminate()
        process.wait(END_S)


def _has_value(samples: list[tuple[float, str]]) -> bool:
    return any(not math.isnan(float(value)) for _, value in samples)
