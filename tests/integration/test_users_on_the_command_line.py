"""`triplane users`, as an operator types it, over a real database."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from app_fixture import app_environment, triplane
from triplane.adapters.postgres.pool import Database


@pytest.fixture
def environment(tmp_path: Path, postgres_url: str, redis_url: str) -> Mapping[str, str]:
    settings = app_environment(tmp_path, postgres_url, redis_url)
    return {**settings, "TRIPLANE_PUBLIC_URL": "https://chat.example"}


async def test_a_user_is_made_put_on_a_plan_shut_out_and_let_in(
    environment: Mapping[str, str], database: Database
) -> None:
    user_id, link = triplane(environment, "users", "create", "Ada", "--admin").splitlines()
    triplane(environment, "users", "plan", user_id, "default")
    triplane(environment, "users", "disable", user_id)
    disabled = triplane(environment, "users", "list").splitlines()
    triplane(environment, "users", "disable", user_id, "--undo")
    enabled = triplane(environment, "users", "list").splitlines()

    assert link.startswith("https://chat.example/sign-in?token=")
    assert disabled[0].split() == [user_id, "disabled", "default", "Ada"]
    assert enabled[0].split() == [user_id, "admin", "default", "Ada"]
    assert len(enabled) == 2
    log = await database.fetch("SELECT action, actor_name FROM audit_log ORDER BY id")
    assert [(row["action"], row["actor_name"]) for row in log] == [
        ("user.created", "command line"),
        ("sign_in_link.created", "command line"),
        ("user.plan_changed", "command line"),
        ("user.disabled", "command line"),
        ("user.enabled", "command line"),
    ]


async def test_keys_made_and_revoked_here_are_in_the_audit_log(
    environment: Mapping[str, str], database: Database
) -> None:
    secret = triplane(environment, "keys", "create", "laptop")
    (listed,) = triplane(environment, "keys", "list").splitlines()
    triplane(environment, "keys", "revoke", listed.split()[0])

    log = await database.fetch("SELECT action, target, detail FROM audit_log ORDER BY id")
    key_id = listed.split()[0]
    assert [tuple(row.values()) for row in log] == [
        ("api_key.created", key_id, "laptop"),
        ("api_key.revoked", key_id, ""),
    ]
    assert secret not in str(log)


async def test_the_last_administrator_and_unknown_plans_are_refused_in_a_sentence(
    environment: Mapping[str, str],
) -> None:
    (first,) = triplane(environment, "users", "list").splitlines()

    with pytest.raises(AssertionError, match="last administrator"):
        triplane(environment, "users", "disable", first.split()[0])
    with pytest.raises(AssertionError, match="There is no plan 'gold'"):
        triplane(environment, "users", "plan", first.split()[0], "gold")
