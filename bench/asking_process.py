"""A process that asks a gateway over gRPC, as one of the API's: `ADDRESS USER CLIENTS SECONDS`.

What it was told goes to its output as JSON.
"""

import asyncio
import sys

import msgspec

from bench.engine_processes import MODEL
from bench.gateway_load import Asked, keep_asking, question
from triplane.inference.service.rpc.client import RemoteGateway


async def _asked(address: str, user: str, clients: int, for_s: float) -> list[Asked]:
    gateway = RemoteGateway(address)
    try:
        return await keep_asking(gateway, lambda: question(MODEL, plan="free", user=user), clients, for_s)
    finally:
        await gateway.close()


def main() -> None:
    address, user, clients, for_s = sys.argv[1:]
    told = asyncio.run(_asked(address, user, int(clients), float(for_s)))
    sys.stdout.buffer.write(msgspec.json.encode(told))


if __name__ == "__main__":
    main()
