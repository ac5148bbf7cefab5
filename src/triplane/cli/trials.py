"""`triplane models test`: what works, how fast, and what is wrong with the rest."""

from collections.abc import Callable

from triplane.cli.catalogue import catalogue_here, opener_here, where_from
from triplane.cli.errors import CommandFailed
from triplane.inference.trial import Trial, replicas_of, try_replica
from triplane.settings import Settings


async def try_models(settings: Settings, model: str | None, say: Callable[[str], None]) -> int:
    """A line for each replica, one after another. 0 if all work, else 1. Raises CommandFailed."""
    catalogue, build = catalogue_here(settings), opener_here(settings)
    if model is not None and model not in catalogue.models:
        known = ", ".join(catalogue.models)
        raise CommandFailed(f"There is no model {model!r} in {where_from(settings)}; there is {known}.")
    failed = 0
    for name, url in replicas_of(catalogue, model):
        trial = await try_replica(catalogue, name, url, build)
        failed += trial.problem is not None
        say(_line(trial))
    return 1 if failed else 0


def _line(trial: Trial) -> str:
    replica = trial.replica if trial.replica.startswith(trial.route) else f"{trial.route} at {trial.replica}"
    if trial.problem is not None:
        return f"problem  {replica}: {trial.problem}"
    ttft = f"{(trial.ttft_s or 0) * 1000:.0f} ms"
    if trial.only_reads:
        return f"ok       {replica}: read a prompt in {ttft}"
    pace = f", {trial.tokens_per_s:.0f} tokens/s" if trial.tokens_per_s else ""
    return f"ok       {replica}: first token after {ttft}{pace}"
