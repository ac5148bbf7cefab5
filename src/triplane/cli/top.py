"""`triplane top`: the engines as they are now, refreshed each second, or once as JSON."""

import asyncio

from rich.console import Console

from triplane.cli.reaching import with_server
from triplane.experience.fleet_table import print_fleet, watch_fleet
from triplane.settings import Settings


def top(settings: Settings, url: str | None, key: str | None, *, as_json: bool) -> None:
    """Ends with Ctrl-C. Raises TriplaneError (Forbidden: the key is no administrator's), CommandFailed."""

    def show(server: str, key: str) -> None:
        if as_json:
            asyncio.run(print_fleet(server, key))
        else:
            asyncio.run(watch_fleet(server, key, Console()))

    with_server(settings, url, key, show)
