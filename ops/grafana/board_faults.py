"""Faults, what was done about them, and what that cost."""

from __future__ import annotations

from panels import BAD, GOOD, HOST, RUN, WARN, Board, Panel, Query, Row

_LOST = "recomputed|restart|restore|init|compile|decision_wait"
_RECOVERY = 'sum by (le) (increase(trainerd_recovery_duration_seconds_bucket{run=~"$run"}[1h]))'


def _quantile(part: float) -> Query:
    return Query(expr=f"histogram_quantile({part}, {_RECOVERY})", legend=f"{part * 100:g} %")


def _rises(metric: str, by: str, legend: str, also: str = "") -> Query:
    return Query(
        expr=f'sum by ({by}) (increase(trainerd_{metric}_total{{run=~"$run"{also}}}'
        "[$__rate_interval]))",
        legend=legend,
    )


BOARD = Board(
    uid="trainerd-faults",
    title="trainerd / Faults and recovery",
    about="What went wrong, what was done about it, and what it cost.",
    variables=(RUN, HOST),
    rows=(
        Row(
            title="Faults",
            panels=(
                Panel(
                    title="Faults by class and action",
                    about="Every fault that struck, those that cost nothing too.",
                    stacked=True,
                    width=16,
                    queries=(
                        _rises(
                            "faults", "class, action", "{{class}}: {{action}}", ',host=~"$host"'
                        ),
                    ),
                    runbook="README",
                ),
                Panel(
                    title="Since the run began",
                    about="Faults by class and action.",
                    kind="bargauge",
                    width=8,
                    queries=(
                        Query(
                            expr="sum by (class, action) (trainerd_faults_total"
                            '{run=~"$run",host=~"$host"}) > 0',
                            legend="{{class}}: {{action}}",
                        ),
                    ),
                    steps=((None, WARN),),
                ),
                Panel(
                    title="Faults of steps",
                    about="Those of one batch, by class and action.",
                    stacked=True,
                    queries=(_rises("step_errors", "class, action", "{{class}}: {{action}}"),),
                ),
                Panel(
                    title="Batches left out",
                    about="Whole batches, by class.",
                    stacked=True,
                    queries=(_rises("skipped_batches", "class", "{{class}}"),),
                    runbook="skip-rate-high",
                ),
                Panel(
                    title="Faults on purpose",
                    about="Drills: what was injected.",
                    stacked=True,
                    queries=(_rises("injected_faults", "fault", "{{fault}}"),),
                ),
                Panel(
                    title="Late news",
                    about="Messages of trainers that came twice or of a process that is gone; they "
                    "are ignored.",
                    stacked=True,
                    queries=(
                        Query(
                            expr="sum by (kind) (increase(trainerd_stale_events_total"
                            "[$__rate_interval]))",
                            legend="{{kind}}",
                        ),
                    ),
                ),
            ),
        ),
        Row(
            title="Recovery",
            panels=(
                Panel(
                    title="Restarts and rollbacks",
                    about="By scope and class.",
                    stacked=True,
                    queries=(_rises("restarts", "scope, class", "{{scope}}: {{class}}"),),
                    runbook="restart-storm",
                ),
                Panel(
                    title="Fault to next new step",
                    about="How long recoveries took; last hour.",
                    unit="s",
                    steps=((None, GOOD), (60, BAD)),
                    queries=(_quantile(0.5), _quantile(0.95)),
                    runbook="recovery-slow",
                ),
                Panel(
                    title="Mean time of a recovery",
                    about="By class, over the last hour.",
                    unit="s",
                    queries=(
                        Query(
                            expr="sum by (class) (increase(trainerd_recovery_duration_seconds_sum"
                            '{run=~"$run"}[1h])) / (sum by (class) (increase('
                            'trainerd_recovery_duration_seconds_count{run=~"$run"}[1h])) > 0)',
                            legend="{{class}}",
                        ),
                    ),
                    runbook="recovery-slow",
                ),
                Panel(
                    title="Recovering or held",
                    about="1 while a run recovers from a fault, or a fault has paused it.",
                    most=1,
                    decimals=0,
                    queries=(
                        Query(
                            expr='trainerd_run_state{run=~"$run",state="recovering"}',
                            legend="{{run}} recovers",
                        ),
                        Query(
                            expr='trainerd_run_paused_by_fault{run=~"$run"}',
                            legend="{{run}} is held",
                        ),
                    ),
                    runbook="run-paused-by-fault",
                ),
                Panel(
                    title="What it cost",
                    about="The parts of a run's time that go to starting, restoring, doing again.",
                    unit="percentunit",
                    most=1,
                    stacked=True,
                    width=24,
                    queries=(
                        Query(
                            expr="avg by (activity) (rate(trainerd_time_seconds_total"
                            f'{{run=~"$run",activity=~"{_LOST}"}}[$__rate_interval]))',
                            legend="{{activity}}",
                        ),
                    ),
                    runbook="goodput-low",
                ),
            ),
        ),
    ),
)
