"""Account settings, sessions, usage and administration over HTTP: who sees and changes what."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import date
from typing import Any

import asyncpg
import httpx
import pytest

from served_app import Served
from servers import add_user
from triplane.adapters.postgres.conversations import PostgresConversations
from triplane.adapters.postgres.pool import Database
from triplane.adapters.postgres.usage_reports import PostgresUsageReports
from triplane.adapters.postgres.user_data import PostgresUserData
from triplane.adapters.redis.fleet_history import RedisFleetHistory
from triplane.adapters.redis.pipeline import RedisPipeline
from triplane.domain.conversation import Principal
from triplane.domain.fleet import Recent, ReplicaView, RouteView
from triplane.domain.ids import new_id

ADMIN_PATHS = ["users", "plans", "models", "usage", "audit_log", "fleet/history"]
BILL = "SELECT * FROM usage_events ORDER BY created_at"


async def key_of(bff: Served, who: Principal) -> dict[str, str]:
    _, secret = await bff.http_app.api_keys.create(who, "test")
    return {"authorization": f"Bearer {secret}"}


async def make_user(client: httpx.AsyncClient, **fields: Any) -> dict[str, Any]:
    answer = await client.post("/v1/admin/users", json={"name": "Ada", **fields})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


@asynccontextmanager
async def browser(bff: Served, url: str) -> AsyncIterator[httpx.AsyncClient]:
    """A browser that came by this sign-in link."""
    headers = {"sec-fetch-site": "same-origin", "user-agent": "Test/1 " + "x" * 400}
    async with httpx.AsyncClient(base_url=bff.url, headers=headers) as client:
        assert (await client.get(url)).status_code == 303
        yield client


async def test_settings_are_merged_and_are_ones_own(bff: Served, database: Database) -> None:
    other = await key_of(bff, await add_user(database, (await bff.http_app.administrator()).tenant_id))
    async with bff.client() as client:
        first = await client.get("/v1/me/settings")
        await client.patch("/v1/me/settings", json={"language": "de", "instructions": "Be brief."})
        merged = await client.patch("/v1/me/settings", json={"theme": "dark", "language": None})
        too_long = await client.patch("/v1/me/settings", json={"instructions": "x" * 4001})
        me = (await client.get("/v1/me")).json()
        others = await client.get("/v1/me/settings", headers=other)

    assert (first.json()["theme"], first.json()["language"]) == ("system", None)
    assert (merged.json()["theme"], merged.json()["language"]) == ("dark", None)
    assert merged.json()["instructions"] == "Be brief."
    assert too_long.status_code == 400
    assert (me["plan"], me["settings"]) == ("default", merged.json())
    assert others.json() == first.json()


async def test_sessions_are_listed_and_ended_by_their_user_alone(bff: Served, database: Database) -> None:
    async with bff.client() as admin:
        made = await make_user(admin)
        second = (await admin.post(f"/v1/admin/users/{made['id']}/sign_in_link")).json()["sign_in_url"]
        async with browser(bff, made["sign_in_url"]) as one, browser(bff, second) as two:
            listed = (await one.get("/v1/sessions")).json()["data"]
            other = next(each for each in listed if not each["current"])
            by_another = await admin.delete(f"/v1/sessions/{other['id']}")
            ended = await one.delete(f"/v1/sessions/{other['id']}")
            after = await two.get("/v1/me")
            rest = (await one.delete("/v1/sessions")).json()

    assert [each["current"] for each in listed] == [False, True]
    assert listed[0]["address"] == "127.0.0.1"
    assert len(listed[0]["user_agent"]) == 300
    assert by_another.status_code == 404
    assert (ended.status_code, after.status_code, rest["deleted"]) == (200, 401, 0)


async def test_usage_is_summed_by_day_model_and_key_of_one_user(bff: Served, database: Database) -> None:
    admin = await bff.http_app.administrator()
    stranger = await add_user(database)
    for who, cost in ((admin, 1_000), (admin, 2_000_000_000), (stranger, 7)):
        await database.execute(
            "INSERT INTO usage_events (tenant_id, id, user_id, request_id, model, replica, route, attempt,"
            " cost, prompt_tokens, completion_tokens, cached_tokens, created_at)"
            " VALUES ($1, $2, $3, 'r', 'fast', 'a', 'only', 1, $4, 10, 5, 2, '2026-11-20T23:30:00Z')",
            who.tenant_id, new_id("usage"), who.user_id, cost,
        )  # fmt: skip
    days = {"from": "2026-11-20", "to": "2026-11-20"}
    async with bff.client() as client:
        own = (await client.get("/v1/usage", params={**days, "by": "day,model,key"})).json()["data"]
        tenant = (await client.get("/v1/admin/usage", params={**days, "by": "user,plan"})).json()["data"]
        total = (await client.get("/v1/usage", params={**days, "by": ""})).json()["data"]
        later = (await client.get("/v1/usage", params={"from": "2026-11-21", "to": "2026-11-22"})).json()[
            "data"
        ]
        wrong = [
            await client.get("/v1/usage", params=params)
            for params in ({"from": "2026-02-30"}, {"by": "user"}, {"from": "2026-01-02", "to": "2026-01-01"})
        ]

    sums = {"requests": 2, "input_tokens": 20, "cached_tokens": 4, "output_tokens": 10, "cost": 2.000001}
    assert own == [{"date": "2026-11-20", "model": "fast", "api_key_id": None, **sums}]
    assert tenant == [{"user_id": admin.user_id, "plan": "default", **sums}]
    assert total == [sums]
    assert later == []
    assert [answer.status_code for answer in wrong] == [400] * 3


class ExplainingDatabase(Database):
    """Asks how a statement would be run, and keeps what it is told in `plan`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.plan = ""

    async def fetch(self, sql: str, *arguments: object) -> Sequence[asyncpg.Record]:
        self.plan = str(await self._database.fetch(f"EXPLAIN {sql}", *arguments))
        return []


async def test_a_big_bill_is_summed_by_its_index(bff: Served, database: Database) -> None:
    admin = await bff.http_app.administrator()
    await database.execute(
        "INSERT INTO usage_events (tenant_id, id, user_id, request_id, model, replica, route, attempt,"
        " cost, prompt_tokens, completion_tokens, cached_tokens, created_at)"
        " SELECT $1, 'usage_' || n, CASE WHEN n % 100 = 0 THEN $2 ELSE 'user_' || n % 97 END, 'r',"
        " 'm' || n % 5, 'a', 'only', 1, 1, 1, 1, 0,"
        " '2026-10-01T00:00:00Z'::timestamptz + n * interval '4 minutes' FROM generate_series(1, 20000) n",
        admin.tenant_id, admin.user_id,
    )  # fmt: skip
    await database.execute("ANALYZE usage_events")
    days = {"from": "2026-11-01", "to": "2026-11-03"}
    async with bff.client() as client:
        own = (await client.get("/v1/usage", params={**days, "by": "day,model"})).json()["data"]
        answer = await client.get("/v1/admin/usage", params={**days, "by": "day,model,user"})
        everybody = answer.json()["data"]
    explaining = ExplainingDatabase(database)
    plans: list[str] = []
    for user_id in (admin.user_id, None):
        first, last = (date.fromisoformat(each) for each in days.values())
        await PostgresUsageReports(explaining).report(admin.tenant_id, user_id, first, last, ["day", "model"])
        plans.append(explaining.plan)

    assert sum(line["requests"] for line in own) == 11
    assert sum(line["requests"] for line in everybody) == 3 * 24 * 60 / 4
    assert len(everybody) > 1000
    assert "usage_events_of_user" in plans[0]
    assert "usage_events_by_time" in plans[1]


async def test_every_engine_call_of_a_turn_is_told_with_its_times(bff: Served) -> None:
    async with bff.client() as client:
        made = (await client.post("/v1/conversations", json={})).json()["id"]
        body = {"model": "model", "conversation_id": made, "messages": [{"role": "user", "content": "Hi"}]}
        turn_id = (await client.post("/v1/chat/completions", json=body)).json()["turn_id"]
        turn = (await client.get(f"/v1/turns/{turn_id}")).json()

    assert turn["duration_ms"] >= turn["time_to_first_token_ms"] >= 0
    assert turn["cost"] == sum(call["cost"] for call in turn["calls"])
    assert [call["outcome"] for call in turn["calls"]] == ["answered"] * len(turn["calls"])


@pytest.mark.parametrize("path", ADMIN_PATHS)
async def test_administration_is_refused_to_others_and_the_refusal_is_noted(
    bff: Served, database: Database, path: str
) -> None:
    user = await add_user(database, (await bff.http_app.administrator()).tenant_id)
    headers = await key_of(bff, user)
    async with bff.client() as client:
        refused = [await client.get(f"/v1/admin/{path}", headers=headers) for _ in range(3)]
        log = (await client.get("/v1/admin/audit_log", params={"action": "admin.refused"})).json()["data"]

    assert [answer.status_code for answer in refused] == [403] * 3
    assert [entry["target"] for entry in log] == [f"/v1/admin/{path}"]
    assert log[0]["actor_id"] == user.user_id


async def test_another_tenants_users_and_log_do_not_exist_cve_2026_45349(
    bff: Served, database: Database
) -> None:
    stranger = await add_user(database)
    await database.execute("UPDATE users SET is_admin = true WHERE id = $1", stranger.user_id)
    eve = await key_of(bff, Principal(tenant_id=stranger.tenant_id, user_id=stranger.user_id, is_admin=True))
    async with bff.client() as client:
        made = await make_user(client)
        path = f"/v1/admin/users/{made['id']}"
        answers = [
            await client.get(path, headers=eve),
            await client.patch(path, headers=eve, json={"is_admin": True}),
            await client.post(f"{path}/sign_in_link", headers=eve),
            await client.delete(path, headers=eve),
        ]
        seen = (await client.get("/v1/admin/users", headers=eve)).json()["data"]
        log = (await client.get("/v1/admin/audit_log", headers=eve)).json()["data"]
        still = await client.get(path)

    assert [answer.status_code for answer in answers] == [404] * 4
    assert [user["id"] for user in seen] == [stranger.user_id]
    assert log == []
    assert (still.status_code, still.json()["is_admin"]) == (200, False)


async def test_users_are_made_found_changed_and_deleted_and_each_step_is_in_the_log(bff: Served) -> None:
    async with bff.client() as client:
        made = await make_user(client, plan="paid")
        async with browser(bff, made["sign_in_url"]) as ada:
            assert (await ada.get("/v1/me")).json()["plan"] == "paid"
            await ada.post("/v1/conversations", json={"items": [{"role": "user", "content": "secret"}]})
            await client.patch(f"/v1/admin/users/{made['id']}", json={"name": "Ada L.", "plan": None})
            found = (await client.get("/v1/admin/users", params={"q": "ada l"})).json()["data"]
            unknown = await client.patch(f"/v1/admin/users/{made['id']}", json={"plan": "none such"})
            gone = await client.delete(f"/v1/admin/users/{made['id']}")
            after = await ada.get("/v1/me")
        log = (await client.get("/v1/admin/audit_log")).json()["data"]
        first = (await client.get("/v1/admin/audit_log", params={"limit": 2})).json()
        rest = (await client.get("/v1/admin/audit_log", params={"after": first["last_id"]})).json()["data"]

    assert [(user["name"], user["plan"], user["requests_30d"]) for user in found] == [("Ada L.", None, 0)]
    assert (unknown.status_code, gone.status_code, after.status_code) == (400, 200, 401)
    assert [entry["action"] for entry in reversed(log)] == [
        "user.created", "sign_in_link.created", "session.created", "user.changed", "user.plan_changed",
        "user.disabled", "user.deleted",
    ]  # fmt: skip
    assert log[0]["actor_name"] == "Administrator"
    assert log[0]["address"] == "127.0.0.1"
    assert first["data"] + rest == log
    assert made["sign_in_url"].partition("token=")[2] not in str(log)


@pytest.mark.parametrize(("times", "status"), [(1, 200), (3, 409)])
async def test_what_a_user_writes_while_they_are_deleted_is_deleted_too(
    bff: Served, database: Database, monkeypatch: pytest.MonkeyPatch, times: int, status: int
) -> None:
    delete_rest, written = PostgresUserData.delete_rest, 0

    async def written_meanwhile(store: PostgresUserData, tenant_id: str, user_id: str) -> dict[str, int]:
        nonlocal written
        counts = await delete_rest(store, tenant_id, user_id)
        if written < times:
            written += 1
            who = Principal(tenant_id=tenant_id, user_id=user_id)
            await PostgresConversations(database).create(who, None, {}, [])
        return counts

    monkeypatch.setattr(PostgresUserData, "delete_rest", written_meanwhile)
    async with bff.client() as client:
        made = await make_user(client)
        gone = await client.delete(f"/v1/admin/users/{made['id']}")

    assert gone.status_code == status


async def test_a_report_that_is_too_long_is_refused_and_not_cut(
    bff: Served, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("triplane.adapters.postgres.usage_reports.MOST_ROWS", 1)
    admin = await bff.http_app.administrator()
    await database.execute(
        "INSERT INTO usage_events (tenant_id, id, user_id, request_id, model, replica, route, attempt, cost,"
        " prompt_tokens, completion_tokens, cached_tokens)"
        " SELECT $1, 'usage_' || n, $2, 'r', 'm' || n, 'a', 'only', 1, 1, 1, 1, 0"
        " FROM generate_series(1, 2) n",
        admin.tenant_id, admin.user_id,
    )  # fmt: skip
    async with bff.client() as client:
        within = await client.get("/v1/usage", params={"by": "day"})
        beyond = await client.get("/v1/usage", params={"by": "model"})

    assert (within.status_code, beyond.status_code) == (200, 400)
    assert "fewer days" in beyond.json()["error"]["message"]


async def test_the_last_administrator_stays(bff: Served) -> None:
    me = f"/v1/admin/users/{(await bff.http_app.administrator()).user_id}"
    async with bff.client() as client:
        answers = [
            await client.patch(me, json={"is_admin": False}),
            await client.patch(me, json={"disabled": True}),
            await client.delete(me),
        ]
        second = await make_user(client, is_admin=True)
        async with browser(bff, second["sign_in_url"]) as other:
            both = await asyncio.gather(
                client.patch(me, json={"is_admin": False}),
                other.patch(f"/v1/admin/users/{second['id']}", json={"is_admin": False}),
            )

    assert [answer.status_code for answer in answers] == [409] * 3
    assert sorted(answer.status_code for answer in both) == [200, 409]


@pytest.mark.parametrize("change", [{"disabled": True}, {"is_admin": False}])
async def test_a_demoted_or_disabled_administrator_keeps_no_open_stream_cve_2026_44553(
    bff: Served, change: dict[str, bool]
) -> None:
    async with bff.client() as client:
        made = await make_user(client, is_admin=True)
        async with (
            browser(bff, made["sign_in_url"]) as ada,
            ada.stream("GET", "/v1/events") as events,
        ):
            lines = events.aiter_lines()
            assert (await anext(lines)).startswith("id:")
            await client.patch(f"/v1/admin/users/{made['id']}", json=change)
            async with asyncio.timeout(5):
                assert [line async for line in lines if line.startswith("data")] == []
            after = await ada.get("/v1/admin/users")

    assert after.status_code == (401 if "disabled" in change else 403)


async def test_a_disabled_users_answer_is_stopped_and_kept(bff: Served) -> None:
    bff.gateway.waits[2] = asyncio.Event()
    async with bff.client() as client:
        made = await make_user(client)
        async with browser(bff, made["sign_in_url"]) as ada:
            conversation = (await ada.post("/v1/conversations", json={})).json()["id"]
            messages = [{"role": "user", "content": "Hi"}]
            body = {"model": "model", "conversation_id": conversation, "messages": messages, "stream": True}
            async with ada.stream("POST", "/v1/chat/completions", json=body) as stream:
                lines = stream.aiter_lines()
                async for line in lines:
                    if "Hello" in line:
                        break
                await client.patch(f"/v1/admin/users/{made['id']}", json={"disabled": True})
                async with asyncio.timeout(5):
                    async for _ in lines:
                        pass
        await client.patch(f"/v1/admin/users/{made['id']}", json={"disabled": False})
        link = (await client.post(f"/v1/admin/users/{made['id']}/sign_in_link")).json()["sign_in_url"]
        async with browser(bff, link) as again:
            kept = (await again.get(f"/v1/conversations/{conversation}/messages")).json()["data"]

    assert [(message["content"], message["status"]) for message in kept][1] == ("Hello", "stopped")


async def test_a_disabled_users_whole_answer_is_not_waited_for(bff: Served, database: Database) -> None:
    bff.gateway.waits[1] = asyncio.Event()
    user = await add_user(database, (await bff.http_app.administrator()).tenant_id)
    headers = await key_of(bff, user)
    body = {"model": "model", "messages": [{"role": "user", "content": "Hi"}]}
    async with bff.client() as client, asyncio.timeout(5):
        asking = asyncio.create_task(client.post("/v1/chat/completions", json=body, headers=headers))
        await bff.gateway.called.wait()
        await client.patch(f"/v1/admin/users/{user.user_id}", json={"disabled": True})
        answer = await asking

    assert answer.status_code == 401


async def test_a_revoked_keys_open_stream_ends(bff: Served) -> None:
    who = await bff.http_app.administrator()
    key, secret = await bff.http_app.api_keys.create(who, "laptop")
    headers = {"authorization": f"Bearer {secret}"}
    async with bff.client() as client, client.stream("GET", "/v1/events", headers=headers) as events:
        lines = events.aiter_lines()
        await anext(lines)
        await client.delete(f"/v1/api_keys/{key.id}")
        async with asyncio.timeout(5):
            assert [line async for line in lines if line.startswith("data")] == []


async def test_deleting_all_data_stops_what_runs_and_keeps_the_bill_and_other_people(
    bff: Served, database: Database
) -> None:
    admin = await bff.http_app.administrator()
    other = await key_of(bff, await add_user(database, admin.tenant_id))
    items = {"items": [{"role": "user", "content": "mine"}]}
    async with bff.client() as client:
        await client.patch("/v1/me/settings", json={"instructions": "Be brief.", "theme": "dark"})
        mine = (await client.post("/v1/conversations", json=items)).json()["id"]
        theirs = (await client.post("/v1/conversations", json=items, headers=other)).json()["id"]
        body: dict[str, Any] = {"model": "model", "conversation_id": mine, "messages": items["items"]}
        await client.post("/v1/chat/completions", json=body)
        bill = await database.fetch(BILL)
        bff.gateway.waits[2] = asyncio.Event()
        await client.post("/v1/chat/completions", json={**body, "background": True})
        unsure = await client.post("/v1/me/delete_data", json={"confirm": "yes"})
        deleted = (await client.post("/v1/me/delete_data", json={"confirm": "delete everything"})).json()
        again = (await client.post("/v1/me/delete_data", json={"confirm": "delete everything"})).json()
        settings = (await client.get("/v1/me/settings")).json()
        answers = [
            await client.get(f"/v1/conversations/{mine}"),
            await client.get(f"/v1/conversations/{theirs}", headers=other),
        ]
        async with asyncio.timeout(5):
            await bff.gateway.completions[1].closed.wait()

    assert unsure.status_code == 400
    assert (deleted["conversations"], deleted["messages"]) == (1, 5)
    assert (again["conversations"], again["messages"]) == (0, 0)
    assert (settings["instructions"], settings["theme"]) == ("", "dark")
    assert [answer.status_code for answer in answers] == [404, 200]
    assert await database.fetchval("SELECT count(*) FROM turns") == 0
    assert await database.fetchval("SELECT count(*) FROM messages WHERE conversation_id = $1", mine) == 0
    assert [(row["prompt_tokens"], row["completion_tokens"]) for row in bill] == [(4, 1)]
    assert (await database.fetch(BILL))[:1] == bill


async def test_administrators_see_the_catalogue_and_the_fleets_last_hours(
    bff: Served, redis_pipeline: RedisPipeline
) -> None:
    history, now = RedisFleetHistory(redis_pipeline), time.time()
    replica = ReplicaView(name="a", state="closed", in_flight=2, busy_for_s=0)
    recent = Recent(calls=3, errors=1, tokens_per_s=10.0, ttft_p50_s=0.1, ttft_p95_s=0.4)
    route = RouteView(
        name="only", engine="vllm", slots=4, held=2, waiting=1, recent=recent, replicas=[replica]
    )
    for process, at in (("one", now - 20), ("one", now), ("two", now), ("two", now)):
        await history.record(process, [route], at)
    async with bff.client() as client:
        plans = (await client.get("/v1/admin/plans")).json()["data"]
        models = (await client.get("/v1/admin/models")).json()["data"]
        fleet = (await client.get("/v1/admin/fleet/history", params={"minutes": 5})).json()["routes"]

    assert [(plan["id"], plan["weight"]) for plan in plans] == [("default", 1.0), ("paid", 4.0)]
    assert plans[1]["limits"]["requests_per_minute"] == 60
    assert (models[0]["name"], models[0]["routes"][0]["replicas"]) == ("The model", ["http://127.0.0.1:9"])
    assert fleet[0]["name"] == "only"
    assert [(p["running"], p["waiting"], p["errors_per_min"]) for p in fleet[0]["points"]] == [
        (2, 1, 1),
        (4, 2, 2),
    ]
    assert fleet[0]["points"][1]["ttft_p50_s"] == 0.1
