"""Who may administrate, and the word to the audit log of who does what."""

from time import monotonic

from triplane.domain.errors import Forbidden
from triplane.orchestration.accounts.administration_ports import Actor, AuditLog
from triplane.orchestration.bff.request import StrictRequest

REFUSED_EVERY_S = 60.0
_MOST = 1000


def actor_of(request: StrictRequest) -> Actor:
    who = request.principal
    return Actor(tenant_id=who.tenant_id, user_id=who.user_id, address=address_of(request))


def address_of(request: StrictRequest) -> str:
    """The client's, from a trusted proxy's headers too: the server has put it into the scope."""
    return request.client.host if request.client else ""


class AdminDoor:
    """Lets administrators in. Of others the audit log has a line a minute each, so that it fills no disk."""

    def __init__(self, audit: AuditLog) -> None:
        self._audit = audit
        self._refused: dict[str, float] = {}

    async def admit(self, request: StrictRequest) -> None:
        """Raises Forbidden."""
        who, now = request.principal, monotonic()
        if who.is_admin:
            return
        if now - self._refused.get(who.user_id, -REFUSED_EVERY_S) >= REFUSED_EVERY_S:
            self._refused.pop(who.user_id, None)
            self._refused[who.user_id] = now
            if len(self._refused) > _MOST:
                del self._refused[next(iter(self._refused))]
            await self._audit.record(actor_of(request), "admin.refused", request.url.path[:200])
        raise Forbidden("Only administrators may do this.")
