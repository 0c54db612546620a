"""What runs where, and what needs somebody."""

from __future__ import annotations

from panels import BAD, GOOD, HOST, ON_OFF, RUN, WARN, Board, Panel, Query, Row

STATES = ("queued", "starting", "running", "recovering", "paused", "stopping")
"""Of runs that have not ended."""

BOARD = Board(
    uid="trainerd-fleet",
    title="trainerd / Fleet",
    about="All daemons that this Prometheus scrapes: hosts, runs, how much of their time is used.",
    variables=(RUN, HOST),
    rows=(
        Row(
            title="Now",
            panels=(
                Panel(
                    title="Daemons that answer",
                    about="Scraped daemons.",
                    kind="stat",
                    width=4,
                    height=4,
                    queries=(Query(expr="count(trainerd_build_info)"),),
                    steps=((None, BAD), (1, GOOD)),
                    runbook="daemon-down",
                ),
                Panel(
                    title="Hosts that are down",
                    about="Hosts whose launcher is not linked to its daemon.",
                    kind="stat",
                    width=4,
                    height=4,
                    queries=(Query(expr='sum(1 - trainerd_host_up{host=~"$host"})'),),
                    steps=((None, GOOD), (1, BAD)),
                    runbook="host-down",
                ),
                Panel(
                    title="Running",
                    about="Runs that train.",
                    kind="stat",
                    width=4,
                    height=4,
                    queries=(Query(expr='sum(trainerd_run_state{run=~"$run",state="running"})'),),
                ),
                Panel(
                    title="Recovering or held",
                    about="Runs that recover from a fault, or hold.",
                    kind="stat",
                    width=4,
                    height=4,
                    queries=(
                        Query(
                            expr='sum(trainerd_run_state{run=~"$run",state=~"recovering|paused"})'
                        ),
                    ),
                    steps=((None, GOOD), (1, WARN)),
                ),
                Panel(
                    title="Failed",
                    about="Runs that have failed, until they are deleted or a day has passed.",
                    kind="stat",
                    width=4,
                    height=4,
                    queries=(Query(expr='sum(trainerd_run_state{run=~"$run",state="failed"})'),),
                    steps=((None, GOOD), (1, BAD)),
                    runbook="run-failed",
                ),
                Panel(
                    title="Alerts",
                    about="Alerts of trainerd that fire.",
                    kind="stat",
                    width=4,
                    height=4,
                    queries=(
                        Query(
                            expr='count(ALERTS{alertname=~"Trainerd.+",alertstate="firing"})'
                            " or vector(0)"
                        ),
                    ),
                    steps=((None, GOOD), (1, WARN)),
                    runbook="README",
                ),
            ),
        ),
        Row(
            title="Runs",
            panels=(
                Panel(
                    title="Runs",
                    about="What each run is called, where it stands, and what it is.",
                    kind="table",
                    width=24,
                    queries=(
                        Query(
                            expr="max by (run, name, instance) "
                            '(trainerd_run_info{run=~"$run"})'
                            " * on (run, instance) group_left (state) "
                            '(trainerd_run_state{run=~"$run"} == 1)'
                            " * on (run, instance) group_left () "
                            'trainerd_run_step{run=~"$run"}'
                        ),
                    ),
                    columns={
                        "run": "Run",
                        "name": "Name",
                        "state": "State",
                        "Value": "Steps",
                        "instance": "Daemon",
                    },
                ),
                Panel(
                    title="Runs by state",
                    about="Runs that have not ended.",
                    stacked=True,
                    queries=(
                        Query(
                            expr="sum by (state) (trainerd_run_state"
                            f'{{run=~"$run",state=~"{"|".join(STATES)}"}})',
                            legend="{{state}}",
                        ),
                    ),
                ),
                Panel(
                    title="Goodput",
                    about="Of the time that a run had its devices, or should have had them: the "
                    "part in which it made steps that it had not made before.",
                    unit="percentunit",
                    most=1,
                    steps=((None, BAD), (0.7, WARN), (0.9, GOOD)),
                    queries=(
                        Query(
                            expr='trainerd:goodput:ratio30m{run=~"$run"}',
                            legend="{{run}}",
                        ),
                    ),
                    runbook="goodput-low",
                ),
                Panel(
                    title="Steps a second",
                    about="Applied updates, repeated ones included.",
                    unit="ops",
                    queries=(
                        Query(
                            expr='rate(trainerd_steps_total{run=~"$run"}[$__rate_interval])',
                            legend="{{run}}",
                        ),
                    ),
                ),
                Panel(
                    title="Examples a second",
                    about="Examples that were trained on, repeated ones included.",
                    unit="ops",
                    queries=(
                        Query(
                            expr='rate(trainerd_examples_total{run=~"$run"}[$__rate_interval])',
                            legend="{{run}}",
                        ),
                    ),
                ),
            ),
        ),
        Row(
            title="Hosts",
            panels=(
                Panel(
                    title="Trainers",
                    about="What each host's trainer is doing.",
                    kind="state-timeline",
                    queries=(
                        Query(
                            expr='trainerd_trainer_state{host=~"$host"}',
                            legend="{{host}} {{state}}",
                        ),
                    ),
                    values=ON_OFF,
                ),
                Panel(
                    title="Memory of trainers",
                    about="Resident memory of the process, and device memory in use (0: the "
                    "platform does not tell).",
                    unit="bytes",
                    queries=(
                        Query(
                            expr='trainerd_trainer_memory_bytes{host=~"$host"}',
                            legend="{{host}} {{kind}}",
                        ),
                    ),
                ),
            ),
        ),
    ),
)
