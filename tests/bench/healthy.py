"""What a run pays for a quick recovery while nothing happens: with and without, window by window.

Two hosts, each with a daemon, a launcher and a trainer of the same program; one keeps snapshots in
memory and a standby, the other neither. Their trainers take turns, so that each has the machine to
itself. A window holds a number of snapshots.
"""

from __future__ import annotations

from pathlib import Path

from bench.figures import Figure, at_least, at_most, figure, ratios
from bench.kills import standby_pid
from bench.models import Model
from bench.supervised import START_S, held
from e2e.host import eventually, host

WINDOWS = {"mlp": 3000, "transformer": 16}
"""Steps a window; snapshots are taken every thirty and every six steps or so."""
MOST_PAIRS = 20
_MIB = 1 << 20


def figures(model: Model, key: str, *, pairs: int) -> list[Figure]:
    """How much slower a healthy run is, and what the standby holds."""
    window, pairs = WINDOWS[key], min(pairs, MOST_PAIRS)
    ours, others, sizes = [], [], []
    with (
        host(standby_after_s=1.0) as ready,
        host(standby=False, snapshots=False) as plain,
        held(ready, model, key, window=window) as covered,
        held(plain, model, key, window=window) as bare,
    ):
        # Both have made a window by now, side by side; the standby has been started meanwhile.
        covered.took_s(), bare.took_s()
        eventually("a standby", lambda: standby_pid(ready, covered.run), START_S)
        for _ in range(pairs):
            covered.go()
            ours.append(covered.took_s())
            sizes.append(_resident_mib(standby_pid(ready, covered.run)))
            bare.go()
            others.append(bare.took_s())
        taken = ready.run(covered.run).snapshot_step
        assert taken > 0, "the run took no snapshots"
        assert plain.run(bare.run).snapshot_step <= 0, "the bare one did"
        covered.go(on=False)
        bare.go(on=False)
    return [
        figure(
            f"step rate with snapshots and a standby, {model.name}",
            "without either",
            ratios(others, ours),
            unit="ratio",
            bound=at_least(0.99),
        ),
        figure(
            f"resident memory of the standby, {model.name}",
            "",
            sizes,
            unit="MiB",
            bound=at_most(250),
        ),
    ]


def _resident_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024 / _MIB
    raise ValueError(f"process {pid} has no resident memory")
