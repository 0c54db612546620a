"""What a cut link costs: one of three hosts on a network of their own, cut off again and again.

It is cut silently: what is sent gets lost, and nobody is told.
"""

from __future__ import annotations

import random
import time

from bench import kills
from bench.figures import Figure, at_most, figure
from bench.models import Model
from e2e.cluster import Cluster
from e2e.host import eventually
from e2e.network import Network, why_not
from e2e.networked import networked
from trainerd.v1 import run_pb2

HOSTS = ("h0", "h1", "h2")
READS = 2
"""Examples that a process reads in a step."""
PACE_S = 0.06
MOST_CUTS = 20


def figures(model: Model, *, count: int) -> list[Figure]:
    """From a cut to its detection, and to the next new step without that host; up to MOST_CUTS.

    Where no network can be made there are none.
    """
    if why_not():
        print(f"no link is cut here: {why_not()}")
        return []
    with networked(*HOSTS) as (net, made):
        run = made.submit(_spec(made, model))
        made.until(run, lambda now: now.durable_step > 0, kills.START_S)
        # The first time for a size it is compiled; that is another figure.
        _cut(net, made, run, 1.0)
        moments = random.Random(0)
        cuts = [
            _cut(net, made, run, moments.uniform(1.0, 2.0)) for _ in range(min(count, MOST_CUTS))
        ]
    what = f"the link of one of {len(HOSTS)} hosts is cut → "
    return [
        figure(f"{what}detected", "", [cut[0] for cut in cuts], unit="s", bound=at_most(5)),
        figure(
            f"{what}next new step of the others, {model.name}",
            "",
            [cut[1] for cut in cuts],
            unit="s",
            bound=at_most(8),
        ),
        figure("the link is back → all train again", "", [cut[2] for cut in cuts], unit="s"),
    ]


def _cut(net: Network, made: Cluster, run: str, moment_s: float) -> tuple[float, float, float]:
    """Seconds until a cut was seen, until the others trained, and from its end until all did."""
    *others, far = HOSTS
    for each in made.hosts.values():
        eventually("a standby", lambda h=each: kills.standby_waits(h, run), kills.START_S)
    before = made.training(run, *HOSTS)
    time.sleep(moment_s)
    reached = made.run(run).step
    cut_s = time.monotonic()
    net.cut(far)
    made.until(run, lambda now: now.reason.startswith("host_lost"), kills.START_S)
    detected_s = time.monotonic() - cut_s
    made.training(run, *others, beyond=reached)
    again_s = time.monotonic() - cut_s
    healed_s = time.monotonic()
    net.heal()
    after = made.training(run, *HOSTS, beyond=reached)
    assert after.incarnation == before.incarnation + 2, f"{before.incarnation}, {after.incarnation}"
    return detected_s, again_s, time.monotonic() - healed_s


def _spec(made: Cluster, model: Model) -> run_pb2.RunSpec:
    spec = kills.spec(model, "mlp", PACE_S)
    spec.args["reads"].int_value = READS
    spec.train.global_batch, spec.train.microbatch = len(HOSTS) * READS, 1
    spec.hosts.count, spec.hosts.min = len(HOSTS), 1
    spec.checkpoint.directory = str(made.shared)
    spec.policy.host_lost.limit = 1000
    return spec
