"""Deleting what a user has written, from a real PostgreSQL and Redis."""

import asyncio
from collections.abc import Sequence

from store_examples import SOMEBODY_WAITS, new_turn

from triplane.adapters.postgres.conversations import PostgresConversations
from triplane.adapters.postgres.pool import Database
from triplane.adapters.postgres.turns import PostgresTurns
from triplane.adapters.postgres.user_data import PostgresUserData
from triplane.adapters.redis.hot_window import RedisHotWindow
from triplane.adapters.redis.pipeline import RedisPipeline
from triplane.domain.conversation import Principal
from triplane.orchestration.accounts.data_deletion import delete_data
from triplane.orchestration.announcing import NobodyListens
from triplane.orchestration.history_ports import Window

END_S = 20


async def test_a_turn_that_ends_meanwhile_and_the_deletion_dont_wait_for_each_other(
    database: Database, who: Principal
) -> None:
    conversation = await PostgresConversations(database).create(who, None, {}, [])
    opened = await PostgresTurns(database).open(who, new_turn(conversation.id, "Hi"))
    store = PostgresUserData(database)

    async with database.connection() as ending, asyncio.timeout(END_S):
        async with ending.transaction():
            await ending.execute("SELECT FROM turns WHERE id = $1 FOR UPDATE", opened.turn_id)
            hiding = asyncio.create_task(store.hide(who.tenant_id, who.user_id))
            while not await database.fetchval(SOMEBODY_WAITS):
                pass
            await ending.execute("SELECT FROM conversations WHERE id = $1 FOR UPDATE", conversation.id)
        hidden = await hiding

    assert (hidden.conversation_ids, hidden.turn_ids) == ([conversation.id], [opened.turn_id])


async def test_every_table_with_rows_of_a_conversation_is_in_the_list(database: Database) -> None:
    tables = await database.fetch(
        "SELECT table_name FROM information_schema.columns"
        " WHERE column_name = 'conversation_id' AND table_schema = 'public'"
    )
    body = await database.fetchval("SELECT prosrc FROM pg_proc WHERE proname = 'remove_conversations'")
    kept = {name for (name,) in tables if f"DELETE FROM {name} " not in body}
    assert kept == {"usage_events"}


async def test_deleted_conversations_leave_no_hot_window(
    database: Database, who: Principal, redis_pipeline: RedisPipeline
) -> None:
    conversations, hot = PostgresConversations(database), RedisHotWindow(redis_pipeline)
    made = [await conversations.create(who, None, {}, []) for _ in range(2)]
    await conversations.delete(who, made[0].id)  # before, and not purged yet
    for each in made:
        hot.put(who.tenant_id, each.id, Window(leaf_id="msg", messages=[]))

    async def nobody_runs(turn_ids: Sequence[str]) -> None:
        pass

    counts = await delete_data(who, PostgresUserData(database), hot, nobody_runs, NobodyListens())

    assert counts["conversations"] == 2
    assert [await hot.get(who.tenant_id, each.id) for each in made] == [None, None]
