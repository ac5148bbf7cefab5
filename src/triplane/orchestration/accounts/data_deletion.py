"""Deleting all that a user has written. The account stays, and so does the bill.

First everything is hidden, then running turns are told to stop; then rows go in portions, each in a
transaction of its own, so that it never takes long and a crash leaves nothing that a second call, or the
purge of tombstones, doesn't finish.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence

from triplane.domain.conversation import Principal
from triplane.orchestration.accounts.administration_ports import UserDataStore
from triplane.orchestration.announcing import Announcer, announce_conversation
from triplane.orchestration.history_ports import HotWindow

StopTurns = Callable[[Sequence[str]], Awaitable[None]]
"""Tell whoever runs these turns to stop them now."""

PORTION = 50
STOP_WAIT_S = 5.0
"""A turn that hasn't stopped by then has no owner that lives, and finds its rows gone."""

_ASK_AGAIN_S = 0.05
_MOST_ANNOUNCED = 1000


async def delete_data(
    who: Principal, store: UserDataStore, hot: HotWindow, stop: StopTurns, announcer: Announcer
) -> dict[str, int]:
    """How many rows of each kind are gone. What is begun meanwhile stays. Raises StoreUnavailable."""
    tenant_id, user_id = who.tenant_id, who.user_id
    hidden = await store.hide(tenant_id, user_id)
    await stop(hidden.turn_ids)
    for _ in range(round(STOP_WAIT_S / _ASK_AGAIN_S)):
        if not await store.has_running(tenant_id, user_id):
            break
        await asyncio.sleep(_ASK_AGAIN_S)
    counts: Counter[str] = Counter()
    while (gone := await store.delete_some(tenant_id, user_id, PORTION)).ids:
        counts.update(gone.rows)
        for conversation_id in gone.ids:
            await hot.drop(tenant_id, conversation_id)
    counts.update(await store.delete_rest(tenant_id, user_id))
    for conversation_id in hidden.conversation_ids[:_MOST_ANNOUNCED]:
        announce_conversation(announcer, who, "conversation.deleted", conversation_id)
    return dict(counts)
