"""Ended answers that are to go on, in PostgreSQL."""

from triplane.adapters.postgres.pool import Database
from triplane.adapters.postgres.rows import to_content, to_tool_calls
from triplane.adapters.postgres.turn_rows import JOINS, TURN_COLUMNS, input_between, to_opened
from triplane.domain.completion import text_of
from triplane.domain.conversation import Principal
from triplane.domain.errors import NotFound
from triplane.orchestration.branching_ports import AnsweredTurn
from triplane.orchestration.ports import LEASE_S, HeldTurn


class PostgresBranches:
    """`BranchStore` on PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def answered(self, who: Principal, turn_id: str) -> AnsweredTurn:
        row = await self._database.fetchrow(_ANSWERED, who.tenant_id, who.user_id, turn_id)
        if row is None or row["request"] is None:
            raise NotFound("No such turn.", param="turn_id")
        inputs = await input_between(self._database, who.tenant_id, row["message_id"], row["parent_id"])
        return AnsweredTurn(
            opened=to_opened(row, inputs, created=True, fence=row["fence"]),
            model=row["model"],
            request=row["request"].encode(),
            question_id=row["question_id"],
            text=text_of(to_content(row["content_json"])),
            tool_calls=to_tool_calls(row["tool_calls"]),
            finish_reason=row["finish_reason"],
            token_count=row["token_count"],
            log_position=row["log_position"],
        )

    async def reopen(self, held: HeldTurn, request: bytes, owner: str) -> bool:
        found = await self._database.fetchval(
            _REOPEN, held.tenant_id, held.turn_id, held.fence, request.decode(), owner, LEASE_S
        )
        return found is not None


_ANSWERED = f"""
SELECT {TURN_COLUMNS}, t.model, t.request, t.fence, t.log_position, m.parent_id AS question_id,
    m.content_json, m.tool_calls, m.finish_reason, m.token_count
FROM turns t {JOINS}
WHERE t.tenant_id = $1 AND t.user_id = $2 AND t.id = $3 AND c.deleted_at IS NULL"""

# The conversation's lock keeps whoever opens a turn below this answer out; what has one below stays as it is.
_REOPEN = """
WITH held AS (
    SELECT c.tenant_id, c.id FROM conversations c JOIN turns t
        ON t.tenant_id = c.tenant_id AND t.conversation_id = c.id
    WHERE t.tenant_id = $1 AND t.id = $2 AND c.deleted_at IS NULL
    FOR NO KEY UPDATE OF c
), reopened AS (
    UPDATE turns t SET
        state = 'streaming', fence = t.fence + 1, lease_owner = $5, stop_requested = false, request = $4,
        lease_until = clock_timestamp() + make_interval(secs => $6), continued_after = t.log_position,
        error_code = NULL, error_message = NULL, ended_at = NULL
    FROM held
    WHERE t.tenant_id = $1 AND t.id = $2 AND t.conversation_id = held.id AND t.fence = $3 - 1
      AND t.state <> 'streaming'
      AND NOT EXISTS (
          SELECT FROM messages below
          WHERE below.tenant_id = $1 AND below.conversation_id = held.id AND below.parent_id = t.message_id)
    RETURNING t.message_id
)
UPDATE messages m SET status = 'streaming', finish_reason = NULL FROM reopened
WHERE m.tenant_id = $1 AND m.id = reopened.message_id
RETURNING m.id"""
