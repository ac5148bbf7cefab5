"""Keys and sign-in links of the first administrator, made by whoever may read the data folder."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from triplane.adapters.embedded.run_folder import RunFolder
from triplane.adapters.postgres.accounts import PostgresAccounts
from triplane.adapters.postgres.audit_log import add_entry
from triplane.adapters.postgres.pool import Database
from triplane.cli.database import connected, database_url, migrate
from triplane.cli.errors import CommandFailed
from triplane.cli.secret import signing_secret
from triplane.domain.conversation import Principal
from triplane.orchestration.accounts.administration_ports import Actor
from triplane.orchestration.accounts.api_keys import ApiKeys
from triplane.orchestration.accounts.sessions import Sessions, principal_of
from triplane.settings import Settings


async def create_key(settings: Settings, name: str, *, caches_answers: bool = False) -> str:
    """A new key's secret. Raises InvalidRequest."""
    async with administrator(settings) as (database, who):
        key, secret = await _keys(database).create(who, name, caches_answers=caches_answers)
        await add_entry(database, command_line(who), "api_key.created", key.id, key.name)
        return secret


async def list_keys(settings: Settings) -> list[str]:
    """A line for each key: id, how the secret begins, state, name."""
    async with administrator(settings) as (database, who):
        return [
            f"{key.id}  {key.prefix}…  {'revoked' if key.revoked_at else 'valid  '}  {key.name}"
            for key in await _keys(database).list(who)
        ]


async def revoke_key(settings: Settings, key_id: str) -> None:
    """Raises NotFound."""
    async with administrator(settings) as (database, who):
        await _keys(database).revoke(who, key_id)
        await add_entry(database, command_line(who), "api_key.revoked", key_id)


async def make_sign_in_link(settings: Settings) -> str:
    """A new one-time link to the running server. Raises CommandFailed if none runs."""
    url = settings.public_url
    if url is None:
        state = RunFolder(settings.data_dir).read_state()
        if state is None or not state.ready:
            raise CommandFailed(
                "No server of this data folder runs, so a link would lead nowhere. Start `triplane serve`."
            )
        url = state.url
    async with database_url(settings) as database:
        return await new_link(database, signing_secret(settings), url)


async def new_link(database_url: str, secret: str, url: str) -> str:
    """A one-time link that signs the first administrator in at the server `url`."""
    async with connected(database_url) as database:
        accounts = PostgresAccounts(database)
        user = await accounts.ensure_first_administrator()
        link = await Sessions(accounts, secret).link_for(user)
        await add_entry(database, command_line(principal_of(user)), "sign_in_link.created", user.id)
    return f"{url.rstrip('/')}/sign-in?token={link.token}"


@asynccontextmanager
async def administrator(settings: Settings) -> AsyncIterator[tuple[Database, Principal]]:
    """A database that is brought up to date first, and its first administrator."""
    async with database_url(settings) as url:
        await migrate(url, _silent)
        async with connected(url) as database:
            yield database, principal_of(await PostgresAccounts(database).ensure_first_administrator())


def command_line(who: Principal) -> Actor:
    """Who sits at the command line isn't known, only whose tenant it is about."""
    return Actor(tenant_id=who.tenant_id, user_id=None)


def _keys(database: Database) -> ApiKeys:
    return ApiKeys(PostgresAccounts(database))


def _silent(_: str) -> None:
    """A key is printed alone: what else happens is not said."""
