"""The daemons themselves: journal, calls, links."""

from __future__ import annotations

from panels import BAD, GOOD, HOST, ON_OFF, WARN, Board, Panel, Query, Row

_WRITES = (
    "sum by (instance, le) (rate(trainerd_journal_write_duration_seconds_bucket[$__rate_interval]))"
)
_CALLS = "sum by (method, le) (rate(trainerd_rpc_duration_seconds_bucket[$__rate_interval]))"

BOARD = Board(
    uid="trainerd-daemon",
    title="trainerd / Daemon",
    about="The daemons themselves: their journals, calls and links.",
    variables=(HOST,),
    rows=(
        Row(
            title="Daemons",
            panels=(
                Panel(
                    title="Versions",
                    about="What runs where.",
                    kind="table",
                    queries=(
                        Query(expr="max by (instance, version, python) (trainerd_build_info)"),
                    ),
                    columns={"instance": "Daemon", "version": "trainerd", "python": "Python"},
                ),
                Panel(
                    title="Launchers and trainers",
                    about="Whether the launcher is linked, and a trainer attached.",
                    kind="state-timeline",
                    queries=(
                        Query(expr='trainerd_host_up{host=~"$host"}', legend="{{host}} launcher"),
                        Query(expr='trainerd_trainer_up{host=~"$host"}', legend="{{host}} trainer"),
                    ),
                    values=ON_OFF,
                    runbook="host-down",
                ),
                Panel(
                    title="Memory",
                    about="Resident memory of the daemon's process.",
                    unit="bytes",
                    queries=(
                        Query(
                            expr="process_resident_memory_bytes"
                            " and on (job, instance) trainerd_build_info",
                            legend="{{instance}}",
                        ),
                    ),
                ),
                Panel(
                    title="Processor",
                    about="Seconds of one core that the daemon takes a second.",
                    unit="percentunit",
                    queries=(
                        Query(
                            expr="rate(process_cpu_seconds_total[$__rate_interval])"
                            " and on (job, instance) trainerd_build_info",
                            legend="{{instance}}",
                        ),
                    ),
                ),
            ),
        ),
        Row(
            title="Journal",
            panels=(
                Panel(
                    title="Duration of a commit",
                    about="Nothing is acknowledged or decided before it is on disk.",
                    unit="s",
                    steps=((None, GOOD), (0.1, WARN)),
                    queries=tuple(
                        Query(
                            expr=f"histogram_quantile({part}, {_WRITES})",
                            legend=f"{{{{instance}}}} {part * 100:g} %",
                        )
                        for part in (0.5, 0.99)
                    ),
                    runbook="journal-slow",
                ),
                Panel(
                    title="Commits a second",
                    about="Several events may share one.",
                    unit="ops",
                    queries=(
                        Query(
                            expr="rate(trainerd_journal_write_duration_seconds_count"
                            "[$__rate_interval])",
                            legend="{{instance}}",
                        ),
                    ),
                ),
                Panel(
                    title="Writable",
                    about="Whether the newest commit succeeded.",
                    kind="state-timeline",
                    height=5,
                    queries=(Query(expr="trainerd_journal_writable", legend="{{instance}}"),),
                    values={"0": ("no", BAD), "1": ("yes", GOOD)},
                    runbook="journal-not-writable",
                ),
                Panel(
                    title="Commits that failed",
                    about="Nothing of what was in them has happened.",
                    height=5,
                    queries=(
                        Query(
                            expr="increase(trainerd_journal_write_failures_total"
                            "[$__rate_interval])",
                            legend="{{instance}}",
                        ),
                    ),
                    runbook="journal-not-writable",
                ),
            ),
        ),
        Row(
            title="Calls and links",
            panels=(
                Panel(
                    title="Calls a second",
                    about="Of the control service, by method.",
                    unit="reqps",
                    queries=(
                        Query(
                            expr="sum by (method) (rate(trainerd_rpc_duration_seconds_count"
                            "[$__rate_interval]))",
                            legend="{{method}}",
                        ),
                    ),
                ),
                Panel(
                    title="Duration of a call",
                    about="99 in 100 take less. Watches and waits last as long as they are wanted.",
                    unit="s",
                    queries=(
                        Query(expr=f"histogram_quantile(0.99, {_CALLS})", legend="{{method}}"),
                    ),
                ),
                Panel(
                    title="Calls that were refused or failed",
                    about="By method and code.",
                    queries=(
                        Query(
                            expr="sum by (method, code) (increase(trainerd_rpc_duration_seconds_"
                            'count{code!="OK"}[$__rate_interval]))',
                            legend="{{method}} {{code}}",
                        ),
                    ),
                ),
                Panel(
                    title="Since the trainer was heard of",
                    about="A trainer says every second that it lives.",
                    unit="s",
                    steps=((None, GOOD), (10, WARN)),
                    queries=(
                        Query(
                            expr='trainerd_trainer_heartbeat_age_seconds{host=~"$host"}',
                            legend="{{host}}",
                        ),
                    ),
                    runbook="no-progress",
                ),
            ),
        ),
        Row(
            title="Security",
            panels=(
                Panel(
                    title="Lines of the audit log that were lost",
                    about="Calls that change something are refused while it cannot be written.",
                    queries=(
                        Query(
                            expr="increase(trainerd_audit_write_failures_total[$__rate_interval])",
                            legend="{{instance}}",
                        ),
                    ),
                    runbook="audit-log-not-written",
                ),
                Panel(
                    title="Until a certificate expires",
                    about="The first of those that the API is served with over TCP.",
                    unit="s",
                    width=6,
                    kind="stat",
                    steps=((None, BAD), (7 * 86400, GOOD)),
                    queries=(
                        Query(
                            expr="trainerd_api_certificate_expiry_timestamp_seconds - time()",
                            legend="{{instance}}",
                        ),
                    ),
                    runbook="certificate-expiring",
                ),
                Panel(
                    title="Changed certificates that cannot be used",
                    about="The daemon goes on with those it read before.",
                    width=6,
                    queries=(
                        Query(
                            expr="increase(trainerd_api_certificate_reload_failures_total"
                            "[$__rate_interval])",
                            legend="{{instance}}",
                        ),
                    ),
                    runbook="certificate-not-reloaded",
                ),
            ),
        ),
    ),
)
