"""The view of the engines: for administrators, whole, and of the process that answers."""

from collections.abc import Sequence

import msgspec
import pytest

from http_app import HttpApp
from triplane.domain.conversation import Principal
from triplane.domain.fleet import FleetReport, Recent, ReplicaView, RouteView
from triplane.domain.ids import new_id
from triplane.orchestration.accounts.ports import User
from triplane.orchestration.bff.fleet import fleet_handlers

ROUTES = [
    RouteView(
        name="large",
        engine="vllm",
        slots=None,
        held=2,
        waiting=3,
        waiting_by_plan={"free": 2, "paid": 1},
        recent=Recent(calls=9, errors=1, tokens_per_s=70.5, ttft_p50_s=0.03, ttft_p95_s=1.2),
        replicas=[
            ReplicaView(
                name="large@a", state="open", in_flight=2, busy_for_s=1.5, running=4, waiting=0, kv_usage=0.5
            ),
            ReplicaView(name="large@b", state="closed", in_flight=0, busy_for_s=0),
        ],
    )
]


@pytest.fixture
def app() -> HttpApp:
    async def fleet() -> Sequence[RouteView]:
        return ROUTES

    return HttpApp(extra_handlers=fleet_handlers("host:42", fleet))


async def test_an_administrator_sees_every_route_and_replica(app: HttpApp) -> None:
    async with app.with_key() as client:
        answer = await client.get("/v1/admin/fleet")

    report = msgspec.json.decode(answer.content, type=FleetReport)
    assert (answer.status_code, report.process, report.routes) == (200, "host:42", ROUTES)
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json()["object"] == "fleet"
    assert answer.json()["routes"][0]["replicas"][1]["kv_usage"] is None


async def test_nobody_else_does(app: HttpApp) -> None:
    admin = await app.administrator()
    user = User(id=new_id("user"), tenant_id=admin.tenant_id, name="Somebody", is_admin=False)
    await app.accounts.ensure_first_administrator()
    _, key = await app.api_keys.create(Principal(tenant_id=user.tenant_id, user_id=user.id), "test")
    async with app.anonymous() as client:
        unknown = await client.get("/v1/admin/fleet")
        refused = await client.get("/v1/admin/fleet", headers={"authorization": f"Bearer {key}"})

    assert unknown.status_code == 401
    assert refused.status_code == 403
    assert "routes" not in refused.text
    assert refused.json()["error"]["code"] == "forbidden"
