"""Checkpoints: whether they are made, what they cost, and the disk they lie on."""

from __future__ import annotations

from panels import BAD, GOOD, RUN, WARN, Board, Panel, Query, Row


def _quantile(part: float, phase: str) -> Query:
    rate = (
        "increase(trainerd_checkpoint_save_duration_seconds_bucket"
        f'{{run=~"$run",phase="{phase}"}}[1h])'
    )
    return Query(
        expr=f"histogram_quantile({part}, sum by (le) ({rate}))", legend=f"{part * 100:g} %"
    )


def _of_runs(metric: str, legend: str = "{{run}}") -> Query:
    return Query(expr=f'trainerd_checkpoint_{metric}{{run=~"$run"}}', legend=legend)


BOARD = Board(
    uid="trainerd-checkpoints",
    title="trainerd / Checkpoints",
    about="Whether checkpoints are made, what they cost, and the disk they lie on.",
    variables=(RUN,),
    rows=(
        Row(
            title="Durable",
            panels=(
                Panel(
                    title="Age of the newest checkpoint",
                    about="Time since a save of a run that has not ended was durable.",
                    unit="s",
                    steps=((None, GOOD), (3600, BAD)),
                    queries=(
                        Query(
                            expr="(time() - trainerd_checkpoint_last_success_timestamp_seconds"
                            '{run=~"$run"}) and on (job, instance, run)'
                            " (trainerd:run_live:max == 1)",
                            legend="{{run}}",
                        ),
                    ),
                    runbook="checkpoint-too-old",
                ),
                Panel(
                    title="Updates since the newest checkpoint",
                    about="What would be lost with the host.",
                    queries=(
                        Query(
                            expr='trainerd_run_step{run=~"$run"} - clamp_min('
                            'trainerd_checkpoint_last_durable_step{run=~"$run"}, 0)',
                            legend="{{run}}",
                        ),
                    ),
                    runbook="checkpoint-too-old",
                ),
                Panel(
                    title="Saves",
                    about="Saves by what became of them; coalesced ones fell due during another "
                    "and are met by the next.",
                    stacked=True,
                    queries=(
                        Query(
                            expr="sum by (result) (increase(trainerd_checkpoint_saves_total"
                            '{run=~"$run"}[$__rate_interval]))',
                            legend="{{result}}",
                        ),
                    ),
                ),
                Panel(
                    title="Failed saves by reason",
                    about="Training goes on; they are tried again.",
                    stacked=True,
                    queries=(
                        Query(
                            expr="sum by (reason) (increase(trainerd_checkpoint_failures_total"
                            '{run=~"$run"}[$__rate_interval]))',
                            legend="{{reason}}",
                        ),
                    ),
                    runbook="checkpoint-failing",
                ),
                Panel(
                    title="Failed saves in a row",
                    about="Since the last one that was durable.",
                    steps=((None, GOOD), (1, WARN), (3, BAD)),
                    queries=(_of_runs("consecutive_failures"),),
                    runbook="checkpoint-failing",
                ),
                Panel(
                    title="Checkpoints that cannot be used",
                    about="Found by a restore, a verification or a scrub: digest_mismatch is "
                    "damage, the other reasons say why one could not be read.",
                    stacked=True,
                    queries=(
                        Query(
                            expr="sum by (reason) (increase(trainerd_checkpoint_rejected_total"
                            '{run=~"$run"}[$__rate_interval]))',
                            legend="{{reason}}",
                        ),
                    ),
                    runbook="checkpoint-damaged",
                ),
                Panel(
                    title="Since all were read and compared",
                    about="By a scrub or by `trainerctl checkpoints RUN --verify`; nothing: never.",
                    unit="s",
                    queries=(
                        Query(
                            expr="time() - trainerd_checkpoint_last_verification_timestamp_seconds"
                            '{run=~"$run"}',
                            legend="{{run}}",
                        ),
                    ),
                    runbook="checkpoint-damaged",
                ),
                Panel(
                    title="In the fallback directory",
                    about="1 while the run's own directory fails and the other one is used.",
                    most=1,
                    decimals=0,
                    queries=(_of_runs("on_fallback"),),
                    runbook="checkpoint-on-fallback",
                ),
            ),
        ),
        Row(
            title="Cost",
            panels=(
                Panel(
                    title="Training waits for a save",
                    about="For how long a save keeps the next step from starting; last hour.",
                    unit="s",
                    queries=(_quantile(0.5, "blocking"), _quantile(0.95, "blocking")),
                ),
                Panel(
                    title="Until it is durable",
                    about="From its begin until it is written and verified; last hour.",
                    unit="s",
                    queries=(_quantile(0.5, "background"), _quantile(0.95, "background")),
                ),
                Panel(
                    title="Time spent on saving and restoring",
                    about="The parts of a run's time that go to saves that training waits for, to "
                    "snapshots in memory, and to making or restoring a state.",
                    unit="percentunit",
                    most=1,
                    queries=(
                        Query(
                            expr="sum by (run, activity) (rate(trainerd_time_seconds_total"
                            '{run=~"$run",activity=~"checkpoint_blocked|snapshot|restore"}'
                            "[$__rate_interval]))",
                            legend="{{run}} {{activity}}",
                        ),
                    ),
                    runbook="goodput-low",
                ),
                Panel(
                    title="Size of a checkpoint",
                    about="The newest durable one.",
                    unit="bytes",
                    queries=(_of_runs("bytes"),),
                ),
            ),
        ),
        Row(
            title="Disk",
            panels=(
                Panel(
                    title="Taken by checkpoints",
                    about="All durable checkpoints of a run.",
                    unit="bytes",
                    queries=(_of_runs("disk_bytes"),),
                ),
                Panel(
                    title="Free",
                    about="Beside the newest checkpoint, after it was written.",
                    unit="bytes",
                    queries=(_of_runs("disk_free_bytes"),),
                    runbook="disk-full-soon",
                ),
                Panel(
                    title="Full in",
                    about="If it fills as it did over the last saves; nothing: it does not fill.",
                    unit="s",
                    kind="stat",
                    width=24,
                    height=5,
                    steps=((None, BAD), (6 * 3600, WARN), (24 * 3600, GOOD)),
                    queries=(
                        Query(
                            expr="trainerd_checkpoint_disk_full_timestamp_seconds"
                            '{run=~"$run"} - time()',
                            legend="{{run}}",
                        ),
                    ),
                    values={"Infinity": ("never", GOOD)},
                    runbook="disk-full-soon",
                ),
            ),
        ),
    ),
)
