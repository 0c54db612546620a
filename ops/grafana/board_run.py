"""One run: how far it is, how fast, and where its time goes."""

from __future__ import annotations

from panels import BAD, GOOD, ON_OFF, ONE_RUN, WARN, Board, Panel, Query, Row

_STEP_S = 'rate(trainerd_step_duration_seconds_bucket{run=~"$run"}[$__rate_interval])'


def _quantile(part: float) -> Query:
    return Query(
        expr=f"histogram_quantile({part}, sum by (le) ({_STEP_S}))", legend=f"{part * 100:g} %"
    )


BOARD = Board(
    uid="trainerd-run",
    title="trainerd / Run",
    about="One run: how far it is, how fast, and where its time goes.",
    variables=(ONE_RUN,),
    rows=(
        Row(
            title="Progress",
            panels=(
                Panel(
                    title="Done",
                    about="Applied updates of those that complete the run.",
                    kind="gauge",
                    unit="percentunit",
                    most=1,
                    width=4,
                    height=6,
                    steps=((None, "blue"),),
                    queries=(
                        Query(
                            expr='trainerd_run_step{run=~"$run"}'
                            ' / (trainerd_run_target_steps{run=~"$run"} > 0)'
                        ),
                    ),
                ),
                Panel(
                    title="Left at this rate",
                    about="Time until the run is complete, at the rate of the last five minutes.",
                    kind="stat",
                    unit="s",
                    width=4,
                    height=6,
                    queries=(
                        Query(
                            expr='(trainerd_run_target_steps{run=~"$run"}'
                            ' - trainerd_run_step{run=~"$run"})'
                            ' / (trainerd:steps:rate5m{run=~"$run"} > 0)'
                        ),
                    ),
                ),
                Panel(
                    title="Newest loss",
                    about="Mean loss of the newest applied update.",
                    kind="stat",
                    width=4,
                    height=6,
                    decimals=4,
                    queries=(Query(expr='trainerd_run_loss{run=~"$run"}'),),
                ),
                Panel(
                    title="Restarts",
                    about="Restarts and rollbacks after faults.",
                    kind="stat",
                    width=4,
                    height=6,
                    steps=((None, GOOD), (1, WARN), (10, BAD)),
                    queries=(
                        Query(
                            expr='sum(trainerd_restarts_total{run=~"$run",'
                            'class!~"voluntary|preemption"})'
                        ),
                    ),
                    runbook="restart-storm",
                ),
                Panel(
                    title="Batches left out",
                    about="Whole batches that were skipped.",
                    kind="stat",
                    width=4,
                    height=6,
                    steps=((None, GOOD), (1, WARN)),
                    queries=(Query(expr='sum(trainerd_skipped_batches_total{run=~"$run"})'),),
                    runbook="skip-rate-high",
                ),
                Panel(
                    title="Would be lost with the host",
                    about="Applied updates since the newest durable checkpoint.",
                    kind="stat",
                    width=4,
                    height=6,
                    queries=(
                        Query(
                            expr='trainerd_run_step{run=~"$run"} - clamp_min('
                            'trainerd_checkpoint_last_durable_step{run=~"$run"}, 0)'
                        ),
                    ),
                    runbook="checkpoint-too-old",
                ),
                Panel(
                    title="State",
                    about="The states that the run was in.",
                    kind="state-timeline",
                    width=24,
                    height=8,
                    queries=(
                        Query(
                            expr='max by (state) (trainerd_run_state{run=~"$run"})',
                            legend="{{state}}",
                        ),
                    ),
                    values=ON_OFF,
                ),
            ),
        ),
        Row(
            title="Training",
            panels=(
                Panel(
                    title="Loss",
                    about="Mean loss of the newest applied update.",
                    queries=(Query(expr='trainerd_run_loss{run=~"$run"}', legend="loss"),),
                ),
                Panel(
                    title="Step",
                    about="Applied updates; it goes back with a rollback or a restart.",
                    queries=(
                        Query(expr='trainerd_run_step{run=~"$run"}', legend="applied"),
                        Query(
                            expr='trainerd_checkpoint_last_durable_step{run=~"$run"}',
                            legend="durable",
                        ),
                    ),
                ),
                Panel(
                    title="Steps a second",
                    about="Applied updates, repeated ones included.",
                    unit="ops",
                    queries=(
                        Query(
                            expr='rate(trainerd_steps_total{run=~"$run"}[$__rate_interval])',
                            legend="steps",
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
                            legend="examples",
                        ),
                    ),
                ),
                Panel(
                    title="Duration of a step",
                    about="From its dispatch, or the end of the step before, until it was done.",
                    unit="s",
                    queries=(_quantile(0.5), _quantile(0.95), _quantile(0.99)),
                ),
                Panel(
                    title="Durations of steps",
                    about="How many steps took how long.",
                    kind="heatmap",
                    unit="s",
                    queries=(
                        Query(expr=f"sum by (le) ({_STEP_S})", legend="{{le}}", heatmap=True),
                    ),
                ),
            ),
        ),
        Row(
            title="Time",
            panels=(
                Panel(
                    title="Where the time goes",
                    about="Seconds a second by activity: at any moment a run does one thing.",
                    unit="percentunit",
                    stacked=True,
                    most=1,
                    width=16,
                    height=10,
                    queries=(
                        Query(
                            expr="sum by (activity) (rate(trainerd_time_seconds_total"
                            '{run=~"$run"}[$__rate_interval])) > 0',
                            legend="{{activity}}",
                        ),
                    ),
                    runbook="goodput-low",
                ),
                Panel(
                    title="Where the time went",
                    about="The same since the run was submitted.",
                    kind="bargauge",
                    unit="s",
                    width=8,
                    height=10,
                    queries=(
                        Query(
                            expr='sum by (activity) (trainerd_time_seconds_total{run=~"$run"}) > 0',
                            legend="{{activity}}",
                        ),
                    ),
                ),
                Panel(
                    title="Goodput",
                    about="Of the time that the run had its devices, or should have had them: the "
                    "part in which it made steps that it had not made before.",
                    unit="percentunit",
                    most=1,
                    steps=((None, BAD), (0.7, WARN), (0.9, GOOD)),
                    queries=(
                        Query(expr='trainerd:goodput:ratio30m{run=~"$run"}', legend="30 minutes"),
                    ),
                    runbook="goodput-low",
                ),
                Panel(
                    title="Waiting for data",
                    about="The part of the time in which no step ran for want of a batch.",
                    unit="percentunit",
                    most=1,
                    steps=((None, GOOD), (0.1, WARN)),
                    queries=(
                        Query(
                            expr="rate(trainerd_time_seconds_total"
                            '{run=~"$run",activity="data_wait"}[$__rate_interval])',
                            legend="data",
                        ),
                    ),
                    runbook="goodput-low",
                ),
            ),
        ),
    ),
)
