"""Users of the first tenant, looked after by whoever may read the data folder."""

from triplane.adapters.embedded.run_folder import RunFolder
from triplane.adapters.postgres.accounts import PostgresAccounts
from triplane.adapters.postgres.administration import PostgresAdministration
from triplane.adapters.postgres.audit_log import add_entry
from triplane.cli.accounts import administrator, command_line
from triplane.cli.secret import signing_secret
from triplane.domain.limits import DEFAULT_PLAN
from triplane.inference.catalogue import read_catalogue
from triplane.orchestration.accounts.administration_ports import ManagedUser, UserChange
from triplane.orchestration.accounts.sessions import Sessions
from triplane.orchestration.accounts.user_rules import require_plan, require_user_name
from triplane.settings import Settings

_PAGE = 100


async def list_users(settings: Settings) -> list[str]:
    """A line for each user, newest first: id, state, plan, name."""
    async with administrator(settings) as (database, who):
        users, lines, after, more = PostgresAdministration(database), list[str](), None, True
        while more:
            found, more = await users.page(who, after, _PAGE, None)
            lines += [_line(each) for each in found]
            after = found[-1].user.id if found else None
        return lines


async def create_user(settings: Settings, name: str, *, is_admin: bool, plan: str | None) -> list[str]:
    """The new user's id, and a one-time sign-in link if a server runs. Raises InvalidRequest."""
    _require_plan(settings, plan)
    name = require_user_name(name)
    async with administrator(settings) as (database, who):
        actor = command_line(who)
        made = await PostgresAdministration(database).add(actor, name, is_admin, plan)
        url = _server_url(settings)
        if url is None:
            return [made.user.id]
        link = await Sessions(PostgresAccounts(database), signing_secret(settings)).link_for(made.user)
        await add_entry(database, actor, "sign_in_link.created", made.user.id)
        return [made.user.id, f"{url.rstrip('/')}/sign-in?token={link.token}"]


async def disable_user(settings: Settings, user_id: str, *, disabled: bool) -> None:
    """Their access, and their answers that run, end within about a second. Raises NotFound, Conflict."""
    async with administrator(settings) as (database, who):
        users = PostgresAdministration(database)
        await users.change(command_line(who), user_id, UserChange(disabled=disabled))


async def set_plan(settings: Settings, user_id: str, plan: str) -> None:
    """Raises NotFound, InvalidRequest: no such plan."""
    _require_plan(settings, plan)
    async with administrator(settings) as (database, who):
        users = PostgresAdministration(database)
        await users.change(command_line(who), user_id, UserChange(plan=plan))


def _line(managed: ManagedUser) -> str:
    user = managed.user
    state = "disabled" if managed.disabled_at else "admin   " if user.is_admin else "user    "
    return f"{user.id}  {state}  {user.plan or '-'}  {user.name}"


def _require_plan(settings: Settings, plan: str | None) -> None:
    """Raises InvalidRequest, CatalogueError."""
    plans = read_catalogue(settings.catalogue).plans if settings.catalogue else {}
    require_plan(plan, {DEFAULT_PLAN, *plans})


def _server_url(settings: Settings) -> str | None:
    state = RunFolder(settings.data_dir).read_state()
    return settings.public_url or (state.url if state and state.ready else None)
