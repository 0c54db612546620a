"""`make bench`: measures, and writes `results/*.{md,json}`.

`--pairs` says how many pairs a figure is made of, `--only` which groups are measured. Exits 1 if a
figure is missed.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
os.environ.setdefault("JAX_PLATFORMS", "cpu")

from bench import (  # noqa: E402
    accumulation,
    api,
    checkpoints,
    cluster,
    core,
    gang_kills,
    guard,
    healthy,
    library,
    links,
    recovery,
    report,
    saves,
    scrape,
    skipping,
    supervised,
)
from bench.figures import LEAST_PAIRS, Figure  # noqa: E402
from bench.machine import machine  # noqa: E402
from bench.models import mlp, transformer  # noqa: E402

GROUPS: Mapping[str, Callable[[int], list[Figure]]] = {
    "core": lambda pairs: core.figures(pairs=pairs),
    "counts": lambda _: [*guard.counts(mlp()), *guard.counts(transformer())],
    "temporaries": lambda _: [
        *accumulation.temporaries(mlp()),
        *accumulation.temporaries(transformer()),
    ],
    "library-mlp": lambda pairs: library.figures(mlp(), pairs=pairs),
    "library": lambda pairs: library.figures(transformer(), pairs=pairs),
    "supervised-mlp": lambda pairs: supervised.figures(mlp(), "mlp", pairs=pairs),
    "supervised": lambda pairs: supervised.figures(transformer(), "transformer", pairs=pairs),
    "recovery-mlp": lambda pairs: recovery.figures(mlp(), "mlp", count=pairs),
    "recovery": lambda pairs: recovery.figures(transformer(), "transformer", count=pairs),
    "healthy-mlp": lambda pairs: healthy.figures(mlp(), "mlp", pairs=pairs),
    "healthy": lambda pairs: healthy.figures(transformer(), "transformer", pairs=pairs),
    "restore": lambda pairs: checkpoints.figures(transformer(), pairs=pairs),
    "blocked": lambda pairs: saves.blocked(transformer(), pairs=pairs),
    "saving": lambda pairs: saves.rate(transformer(), pairs=pairs),
    "accumulation-mlp": lambda pairs: accumulation.figures(mlp(), pairs=pairs, steps=50),
    "accumulation": lambda pairs: accumulation.figures(transformer(), pairs=pairs, steps=1),
    "guard-mlp": lambda pairs: guard.cost(mlp(), pairs=pairs, steps=200),
    "guard": lambda pairs: guard.cost(transformer(), pairs=pairs, steps=2),
    "scrape": lambda pairs: scrape.figures(pairs=pairs),
    "skipping": lambda pairs: skipping.figures(mlp(), pairs=pairs),
    "operations": lambda pairs: api.figures(pairs=pairs),
    "cluster-hosts": lambda pairs: cluster.figures(windows=max(1, pairs // 8)),
    "cluster-kills": lambda pairs: gang_kills.figures(mlp(), count=pairs),
    "cluster-links": lambda pairs: links.figures(mlp(), count=pairs),
    "cluster-rate": lambda pairs: gang_kills.rate(mlp(), "mlp", pairs=4 * pairs),
}


TABLES: Mapping[str, tuple[str, ...]] = {
    "recovery": ("recovery-mlp", "recovery", "healthy-mlp", "healthy"),
    "checkpoints": ("restore", "blocked", "saving"),
    "operations": ("operations", "scrape"),
    "cluster": ("cluster-kills", "cluster-links", "cluster-rate", "cluster-hosts"),
}
"""Groups with a table of their own; all others are in `training`."""
LEAST = {
    "training": LEAST_PAIRS,
    "recovery": 20,
    "checkpoints": LEAST_PAIRS,
    "operations": LEAST_PAIRS,
    "cluster": 5,
}
"""Fewer pairs, or kills, than this are no result, and the table says so."""


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=LEAST_PAIRS, help="pairs a figure")
    parser.add_argument(
        "--only",
        nargs="+",
        choices={**GROUPS, **TABLES},
        default=list(GROUPS),
        help="groups, or tables with all their groups",
    )
    parser.add_argument("--out", type=Path, default=HERE / "results", help="where to write")
    asked = parser.parse_args()
    if asked.pairs < 1:
        parser.error(f"--pairs must be ≥ 1, got {asked.pairs}")
    described = machine()
    tables: dict[str, list[Figure]] = {}
    groups = [
        group for name in asked.only for group in ((name,) if name in GROUPS else TABLES[name])
    ]
    for group in groups:
        print(f"measuring {group} …", file=sys.stderr, flush=True)
        name = next((name for name, groups in TABLES.items() if group in groups), "training")
        tables.setdefault(name, []).extend(GROUPS[group](asked.pairs))
        # After each group: what was measured stays, whatever befalls the next one.
        _write(asked.out, name, tables[name], described)
    for name in tables:
        print((asked.out / f"{name}.md").read_text())
    return 1 if any(report.missed(figures) for figures in tables.values()) else 0


def _write(folder: Path, name: str, figures: list[Figure], described: Mapping[str, str]) -> None:
    text = report.markdown(figures, described, title=name.capitalize(), least=LEAST[name])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.md").write_text(text)
    (folder / f"{name}.json").write_text(report.as_json(figures, described) + "\n")


if __name__ == "__main__":
    raise SystemExit(main())
