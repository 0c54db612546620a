"""The supervisor in a world that could be: very many events from one seed, and what must hold.

python tests/soak/simulation.py          SEED=1 EVENTS=1000000 by default
"""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from soak.holds import Holds, Violation, demand
from soak.world import World
from trainerd.daemon.supervision.events import Event, RunState
from trainerd.daemon.supervision.policy import Action
from trainerd.daemon.supervision.state import EDGES, State
from trainerd.daemon.supervision.supervisor import step

EVENTS = 1_000_000
PURITY_EVERY = 64
"""One event in so many is taken twice: the same state, the same event, the same outcome."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Campaign:
    """What came of one. `took_s`: seconds of this process's own time. `violation`: the first, with
    its place; empty: none.
    """

    seed: int
    events: int
    took_s: float
    actions: Counter[Action]
    edges: Counter[tuple[RunState | None, RunState]]
    kinds: Counter[str]
    violation: str

    @property
    def unseen(self) -> list[str]:
        """Edges, and actions that one host can lead to, that were never taken."""
        missing = [
            f"{before.value} → {after.value}"
            for before, afters in EDGES.items()
            for after in sorted(afters, key=lambda state: state.value)
            if not self.edges[before, after]
        ]
        # A gang is formed anew with several hosts.
        return missing + [
            action.value
            for action in Action
            if action is not Action.REFORM and not self.actions[action]
        ]


def simulate(seed: int, events: int) -> Campaign:
    """Play that many events; stop at the first violation."""
    world, holds = World(seed), Holds()
    began = time.process_time()
    violation, number = "", 0
    event: Event | None = None
    try:
        for number in range(1, events + 1):
            before = world.state
            event = world.next()
            after, commands = step(before, event, now=world.now)
            holds.check(before, event, after, commands, world.now)
            if number % PURITY_EVERY == 0:
                again = step(before, event, now=world.now)
                demand(again == (after, commands), "not a function of its arguments", event)
                world.forget(after.runs)
            world.hear(after, commands)
    except Violation as error:
        violation = f"seed {seed}, event {number} at {world.now:.3f} s: {event!r}: {error}"
    return Campaign(
        seed=seed,
        events=number,
        took_s=time.process_time() - began,
        actions=holds.actions,
        edges=holds.edges,
        kinds=holds.kinds,
        violation=violation,
    )


def story(seed: int, events: int) -> list[tuple[float, Event]]:
    """The events of such a world with their times, for who wants to play them again."""
    world = World(seed)
    played: list[tuple[float, Event]] = []
    for _ in range(events):
        event = world.next()
        played.append((world.now, event))
        world.hear(*step(world.state, event, now=world.now))
    return played


def replayed(played: list[tuple[float, Event]]) -> State:
    """The state that the supervisor comes to from these events alone."""
    state = State()
    for now, event in played:
        state, _ = step(state, event, now=now)
    return state


def told(campaign: Campaign) -> str:
    """What was seen, one line for each action, edge and kind of event."""
    lines = [f"{action.value:<28}{count:>9}" for action, count in campaign.actions.most_common()]
    for (before, after), count in sorted(campaign.edges.items(), key=lambda each: -each[1]):
        lines.append(f"{before.value if before else '–':>11} → {after.value:<14}{count:>9}")
    lines += [f"{kind:<28}{count:>9}" for kind, count in campaign.kinds.most_common()]
    return "\n".join(lines)


def main() -> int:
    """Play one campaign and say what was seen."""
    seed, events = int(os.environ.get("SEED") or 1), int(os.environ.get("EVENTS") or EVENTS)
    campaign = simulate(seed, events)
    print(told(campaign))
    print(f"{campaign.events} events in {campaign.took_s:.1f} s, seed {seed}")
    for unseen in campaign.unseen:
        print(f"never seen: {unseen}")
    print(campaign.violation or "everything held")
    return 1 if campaign.violation or campaign.unseen else 0


if __name__ == "__main__":
    sys.exit(main())
