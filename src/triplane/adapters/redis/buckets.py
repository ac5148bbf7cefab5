"""Buckets in Redis, shared by all processes: one script settles, and decides a claim wholly or not at all.

A bucket is a string with the time at which it will be full, in seconds of Redis's own clock, and expires at
that time: one that is full isn't there. The holders of slots are a sorted set, scored by when their leases
lapse. All keys of a call carry the tenant in braces, so that they lie on one node of a cluster.
"""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import msgspec
from redis.exceptions import RedisError

from triplane.adapters.redis.pipeline import RedisPipeline
from triplane.adapters.redis.scripts import Script
from triplane.domain.errors import StoreUnavailable
from triplane.domain.limits import Claim, Lease, Settlement, Verdict

_PREFIX = "limits:"

_EXCHANGE = Script("""
local returns, leaves, draws, limits, holder, lease = unpack(cmsgpack.unpack(ARGV[1]))
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local key = 0

local function fill(name, full_at)
  local ms = math.ceil((full_at - now) * 1000)
  if ms > 0 then redis.call('SET', name, string.format('%.17g', full_at), 'PX', ms)
  else redis.call('DEL', name) end
end

for i = 1, #returns do
  local full_at = math.max(now, tonumber(redis.call('GET', KEYS[i]) or now))
  fill(KEYS[i], full_at - returns[i])
end
key = #returns
for i = 1, #leaves do redis.call('ZREM', KEYS[key + i], leaves[i]) end
key = key + #leaves

local granted, full_at, counts, buckets = 1, {}, {}, #draws / 2
if buckets > 0 then
  local kept = redis.call('MGET', unpack(KEYS, key + 1, key + buckets))
  for i = 1, buckets do
    full_at[i] = math.max(now, tonumber(kept[i] or now))
    if full_at[i] + draws[2 * i - 1] - now > draws[2 * i] + 1e-6 then granted = 0 end
  end
end
for i = 1, #limits do
  local name = KEYS[key + buckets + i]
  redis.call('ZREMRANGEBYSCORE', name, '-inf', now)
  counts[i] = redis.call('ZCARD', name)
  if counts[i] >= limits[i] then granted = 0 end
end
local answer = {granted}
for i = 1, buckets do
  if granted == 1 then
    full_at[i] = full_at[i] + draws[2 * i - 1]
    fill(KEYS[key + i], full_at[i])
  end
  answer[#answer + 1] = math.ceil((full_at[i] - now) * 1000000)
end
for i = 1, #limits do
  local name = KEYS[key + buckets + i]
  if granted == 1 then
    redis.call('ZADD', name, now + lease, holder)
    redis.call('PEXPIRE', name, math.ceil(lease * 1000))
  end
  answer[#answer + 1] = counts[i] + granted
end
return answer
""")
"""KEYS: buckets to put back into, slots to leave, then the claim's buckets and slots. ARGV: one list, packed
because each argument costs more than all that is in it: the seconds that each bucket gets back; who leaves
each slot; for each bucket the seconds that the draw takes and those that a full bucket has; the limit of each
slot; the claim's holder; the seconds of its lease. Answers whether it was granted, the microseconds until
each bucket is full, and how many hold each slot."""

_RENEW = Script("""
local time = redis.call('TIME')
local until_s = time[1] + time[2] / 1000000 + ARGV[1]
for i = 2, #ARGV do redis.call('ZADD', KEYS[1], until_s, ARGV[i]) end
redis.call('PEXPIRE', KEYS[1], ARGV[1] * 1000)
""")
"""KEYS: slots. ARGV: seconds of a lease, holders. A holder that Redis has lost is one again."""

_encoder = msgspec.msgpack.Encoder()

_Call = tuple[Script, list[str], list[Any]]
"""A script, its keys and its arguments."""


class RedisBuckets:
    """The `Buckets` port of the gateway's limits. `lease_s` is how long a slot is held without a word."""

    def __init__(self, redis: RedisPipeline, lease_s: float) -> None:
        self._redis = redis
        self._lease_s = lease_s

    async def exchange(self, claims: Sequence[Claim], settlements: Sequence[Settlement]) -> list[Verdict]:
        """Settle, then decide: one round trip for all of it. Raises StoreUnavailable."""
        waiting: defaultdict[str, list[Settlement]] = defaultdict(list)
        for settlement in settlements:
            waiting[settlement.tenant].append(settlement)
        # A tenant's settlements come with its first claim here, so that a slot that was left is free for it.
        calls = [self._call(waiting.pop(claim.tenant, []), claim) for claim in claims]
        calls += [self._call(of_tenant, None) for of_tenant in waiting.values()]
        answers = await self._run(calls)
        return [_verdict(claim, answer) for claim, answer in zip(claims, answers, strict=False)]

    async def renew(self, leases: Sequence[Lease]) -> None:
        """Hold these slots for another lease. Raises StoreUnavailable."""
        holders: defaultdict[str, list[str]] = defaultdict(list)
        for lease in leases:
            holders[lease.name].append(lease.holder)
        await self._run([(_RENEW, [_PREFIX + name], [self._lease_s, *ids]) for name, ids in holders.items()])

    def _call(self, settlements: Sequence[Settlement], claim: Claim | None) -> _Call:
        returns = [each for settlement in settlements for each in settlement.returns]
        leaves = [(name, settlement.id) for settlement in settlements for name in settlement.slots]
        draws, slots = (claim.draws, claim.slots) if claim else ((), ())
        names = [each.name for each in returns]
        names += [name for name, _ in leaves]
        names += [each.name for each in draws]
        names += [each.name for each in slots]
        packed = [
            [each.amount / each.rate for each in returns],
            [holder for _, holder in leaves],
            [seconds for each in draws for seconds in (each.amount / each.rate, each.capacity / each.rate)],
            [each.limit for each in slots],
            claim.id if claim else "",
            self._lease_s,
        ]
        return _EXCHANGE, [_PREFIX + name for name in names], [_encoder.encode(packed)]

    async def _run(self, calls: Sequence[_Call]) -> list[Any]:
        if not calls:
            return []
        try:
            if len(calls) == 1:
                return [await self._redis.run(*calls[0])]
            return await asyncio.gather(*(self._redis.run(*call) for call in calls))
        except (RedisError, OSError) as error:
            raise StoreUnavailable("Redis can't be reached, so limits can't be looked up.") from error


def _verdict(claim: Claim, answer: Sequence[int]) -> Verdict:
    granted, *numbers = answer
    times, in_use = numbers[: len(claim.draws)], numbers[len(claim.draws) :]
    levels = [draw.capacity - us * 1e-6 * draw.rate for draw, us in zip(claim.draws, times, strict=True)]
    return Verdict(granted=bool(granted), levels=levels, in_use=in_use)
