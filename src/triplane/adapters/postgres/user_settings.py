"""What users have set for themselves: a JSON object in their row."""

import msgspec

from triplane.adapters.postgres.pool import Database
from triplane.domain.conversation import Principal
from triplane.domain.errors import NotFound
from triplane.orchestration.accounts.user_settings import SettingsChange, UserSettings


class PostgresUserSettings:
    """`SettingsStore` on PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, who: Principal) -> UserSettings:
        return _settings(await self._database.fetchval(_GET, who.tenant_id, who.user_id))

    async def change(self, who: Principal, change: SettingsChange) -> UserSettings:
        changed = msgspec.json.encode(change).decode()
        return _settings(await self._database.fetchval(_CHANGE, who.tenant_id, who.user_id, changed))


_GET = "SELECT settings FROM users WHERE tenant_id = $1 AND id = $2"

_CHANGE = """
UPDATE users SET settings = settings || $3::jsonb WHERE tenant_id = $1 AND id = $2 RETURNING settings"""


def _settings(stored: str | None) -> UserSettings:
    if stored is None:
        raise NotFound("No such user.")
    return msgspec.json.decode(stored, type=UserSettings)
