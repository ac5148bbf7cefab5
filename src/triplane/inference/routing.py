"""Which of a route's replicas, and which of a model's routes in what order. Pure: it looks and decides.

A conversation goes where its prefix lies in a KV cache: each affinity has an order of the replicas of its
own (rendezvous hashing: Thaler and Ravishankar, 1998), the same in every process, without anything shared.
A replica with much more than its part of the load is passed over (after Mirrokni et al., "Consistent Hashing
with Bounded Loads", SODA 2018). Without an affinity it is the less loaded of two (Mitzenmacher, 2001).
"""

import random
from collections.abc import Iterable, Sequence
from hashlib import blake2b

from triplane.inference.catalogue import Model, Tier
from triplane.inference.replica import Replica

SPARE_LOAD = 1.25
"""How much more than the mean load the replica with the prefix may have."""
LIGHT_LOAD = 8
"""The slots that are assumed of a replica which doesn't tell."""

_luck = random.SystemRandom()


def choose_replica(
    replicas: Sequence[Replica], affinity: str | None, tried: Iterable[Replica] = ()
) -> Replica | None:
    """The replica for the next call, one that wasn't tried yet if there is any. None: none may be asked."""
    available = [each for each in replicas if each.is_available and each.has_slot]
    fresh = [each for each in available if each not in tried] or available
    if len(fresh) < 2:
        return fresh[0] if fresh else None
    if affinity is None:
        return min(_luck.sample(fresh, 2), key=_pressure)
    mean = (sum(each.pressure for each in fresh) + 1) / len(fresh)
    for replica in sorted(fresh, key=lambda each: _weight(affinity, each.name), reverse=True):
        if replica.pressure < max(SPARE_LOAD * mean, _light_load(replica)):
            return replica
    return min(fresh, key=_pressure)


def _light_load(replica: Replica) -> float:
    """Below that a replica isn't worth sparing: its batch has room, and a cached prefix saves more."""
    return (replica.slots or LIGHT_LOAD) / 2


def order_routes(model: Model, affinity: str | None) -> list[str]:
    """Route names in the order in which they are tried; a conversation stays on its side of a canary."""
    order = [model.cascade.route] if model.cascade else []
    for number, tier in enumerate(model.routes):
        order += [name for name in _order_tier(tier, affinity, number) if name not in order]
    return order


def _order_tier(tier: Tier, affinity: str | None, number: int) -> list[str]:
    """One drawn by its share, the others behind it; a share of 0 is only for when the others fail."""
    if isinstance(tier, str):
        return [tier]
    point = _luck.random() if affinity is None else _weight(affinity, f"tier {number}") / 2.0**64
    point *= sum(tier.values())
    for name, share in tier.items():
        if point < share:
            return [name, *(other for other in tier if other != name)]
        point -= share
    return list(tier)


def _weight(affinity: str, name: str) -> int:
    return int.from_bytes(blake2b(f"{affinity}\n{name}".encode(), digest_size=8).digest(), "big")


def _pressure(replica: Replica) -> float:
    return replica.pressure
