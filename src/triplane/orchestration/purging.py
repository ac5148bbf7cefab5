"""Removing what was deleted, once nobody can want it back, and temporary conversations after their day."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Protocol

import structlog

from triplane.domain.errors import StoreUnavailable
from triplane.orchestration.history_ports import HotWindow

TEMPORARY_KEPT = timedelta(hours=24)
PURGE_EVERY_S = 600.0
AT_ONCE = 50
"""Conversations in one transaction: it stays short, and a restart loses little."""

_log = structlog.get_logger(__name__)


class PurgeStore(Protocol):
    async def purge(
        self, deleted_kept: timedelta, temporary_kept: timedelta, limit: int
    ) -> Sequence[tuple[str, str]]:
        """Remove at most `limit` conversations whose time has run out; each as (tenant id, id)."""
        ...


async def purge_all(deleted_kept: timedelta, store: PurgeStore, hot: HotWindow) -> int:
    """Everything that is due, with what the hot window holds of it; how many conversations that were."""
    total = 0
    while gone := await store.purge(deleted_kept, TEMPORARY_KEPT, AT_ONCE):
        for tenant_id, conversation_id in gone:
            await hot.drop(tenant_id, conversation_id)
        total += len(gone)
    if total:
        _log.info("conversations purged", count=total)
    return total


async def purge_for_ever(deleted_kept: timedelta, store: PurgeStore, hot: HotWindow) -> None:
    """Look every ten minutes. Several workers may: each conversation is removed by one."""
    while True:
        try:
            await purge_all(deleted_kept, store, hot)
        except StoreUnavailable as error:
            _log.warning("conversations not purged", reason=error.code)
        await asyncio.sleep(PURGE_EVERY_S)
