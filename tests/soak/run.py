"""`make soak`: the long campaigns, one after the other, and a table of their verdicts.

SEED says what is drawn (default 1), MINUTES how long those that go on for a time go on (default
10), KILLS how many processes are killed and FLIPS how many bits are flipped (default 200 each),
SAVE_KILLS how many processes are killed while they save (default 50), REQUESTS how many requests
are sent (default 100,000), ARGS='--only simulation' which of them. Exits 1 if one fails.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

if __name__ == "__main__":
    # In place of this folder, whose modules would hide packages of the same name.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from soak import fuzz, hosts, kills, saves, simulation, storm

LONGEST_S = 180.0
"""A million events, and all that must hold after each of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What came of a campaign. `seen`: what it did, in numbers; `problems`: none if all is well."""

    seen: str
    problems: tuple[str, ...] = ()


def simulated(seed: int, _minutes: float) -> Verdict:
    """The supervisor alone, in a world of trainers, launchers, daemons and clients."""
    events = int(os.environ.get("EVENTS") or simulation.EVENTS)
    campaign = simulation.simulate(seed, events)
    print(simulation.told(campaign), file=sys.stderr, flush=True)
    problems = [campaign.violation] if campaign.violation else []
    problems += [f"never taken: {unseen}" for unseen in campaign.unseen]
    if campaign.took_s > LONGEST_S:
        problems.append(f"took {campaign.took_s:.0f} s, at most {LONGEST_S:.0f} s")
    actions = ", ".join(f"{count:,} {action.value}" for action, count in campaign.actions.items())
    changes = f"{sum(campaign.edges.values()):,} changes of state, {len(campaign.edges)} edges"
    return Verdict(
        seen=f"{campaign.events:,} events in {campaign.took_s:.0f} s: {actions}; {changes}",
        problems=tuple(problems),
    )


def stormed(seed: int, minutes: float) -> Verdict:
    """Real processes, and every fault that can be made to happen."""
    tally = storm.storm(seed=seed, minutes=minutes)
    return Verdict(seen=str(tally), problems=tuple(tally.violations))


def killed(seed: int, _minutes: float) -> Verdict:
    """Real processes, killed in any order."""
    count = int(os.environ.get("KILLS") or kills.KILLS)
    tally = kills.campaign(seed=seed, kills=count)
    return Verdict(seen=str(tally), problems=tuple(tally.violations))


def disturbed(seed: int, minutes: float) -> Verdict:
    """Several hosts, any of which may die."""
    tally = hosts.campaign(seed=seed, minutes=minutes)
    return Verdict(seen=str(tally), problems=tuple(tally.violations))


def flipped(seed: int, _minutes: float) -> Verdict:
    """A checkpoint of which one bit is not what it was."""
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    # Imports jax, which the others do without.
    from soak import flips

    count = int(os.environ.get("FLIPS") or flips.FLIPS)
    tally = flips.campaign(seed=seed, flips=count)
    return Verdict(seen=str(tally), problems=tuple(tally.violations))


def killed_while_saving(seed: int, _minutes: float) -> Verdict:
    """One process after another, each killed while a save of its is under way."""
    count = int(os.environ.get("SAVE_KILLS") or saves.KILLS)
    tally = saves.campaign(seed=seed, kills=count)
    return Verdict(seen=str(tally), problems=tuple(tally.violations))


def fuzzed(seed: int, _minutes: float) -> Verdict:
    """A daemon at whose sockets somebody throws whatever comes to mind."""
    count = int(os.environ.get("REQUESTS") or fuzz.REQUESTS)
    tally = fuzz.campaign(seed=seed, requests=count)
    return Verdict(seen=str(tally), problems=tuple(tally.violations))


CAMPAIGNS: Mapping[str, Callable[[int, float], Verdict]] = {
    "simulation": simulated,
    "storm": stormed,
    "kills": killed,
    "hosts": disturbed,
    "flips": flipped,
    "saves": killed_while_saving,
    "fuzz": fuzzed,
}


def main() -> int:
    """Run the campaigns, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=int(os.environ.get("SEED") or 1))
    parser.add_argument("--minutes", type=float, default=float(os.environ.get("MINUTES") or 10))
    parser.add_argument("--only", nargs="+", choices=CAMPAIGNS, default=list(CAMPAIGNS))
    asked = parser.parse_args()
    if asked.minutes <= 0:
        parser.error(f"--minutes must be > 0, got {asked.minutes}")
    rows, failed = [], False
    for name in asked.only:
        print(f"{name}, seed {asked.seed} …", file=sys.stderr, flush=True)
        verdict = CAMPAIGNS[name](asked.seed, asked.minutes)
        failed = failed or bool(verdict.problems)
        rows.append(f"| {name} | {asked.seed} | {verdict.seen} | {_word(verdict)} |")
        for problem in verdict.problems:
            print(problem, file=sys.stderr, flush=True)
    print("\n".join(["| campaign | seed | seen | verdict |", "|---|---|---|---|", *rows]))
    return 1 if failed else 0


def _word(verdict: Verdict) -> str:
    return f"FAILED: {len(verdict.problems)}" if verdict.problems else "passed"


if __name__ == "__main__":
    sys.exit(main())
