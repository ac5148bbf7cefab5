"""Asks a server for its fleet."""

import aiohttp
import msgspec

from triplane.domain.errors import DependencyFailed
from triplane.domain.fleet import FleetReport
from triplane.experience.api_client import require_success

_TIMEOUT = aiohttp.ClientTimeout(total=5.0)


async def read_fleet(session: aiohttp.ClientSession, url: str, key: str) -> FleetReport:
    """The fleet of the server at `url`, by an administrator's key. Raises TriplaneError."""
    address = url.rstrip("/") + "/v1/admin/fleet"
    try:
        async with session.get(
            address, headers={"authorization": f"Bearer {key}"}, timeout=_TIMEOUT
        ) as response:
            await require_success(response)
            return msgspec.json.decode(await response.read(), type=FleetReport)
    except (aiohttp.InvalidURL, ValueError) as error:
        raise DependencyFailed(f"{url} is no address of a Triplane server.") from error
    except (aiohttp.ClientError, TimeoutError) as error:
        raise DependencyFailed(
            f"No server answers at {url}. Start one with `triplane serve`, or give --url."
        ) from error
