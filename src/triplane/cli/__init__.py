"""The command line. Each command's work is in a module of its own, imported when it runs.

Answers that a program may want go to standard output, everything else to standard error. What a person can
set right ends in one plain sentence and status 1.
"""

import asyncio
import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from triplane.settings import SettingsError, read_settings

app = typer.Typer(
    name="triplane",
    help="Triplane: your own chat assistant and OpenAI-compatible API. Start with `triplane serve`.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
keys = typer.Typer(help="API keys.", no_args_is_help=True)
users = typer.Typer(help="Users: list, create, disable, plan.", no_args_is_help=True)
models = typer.Typer(help="What is served, and model files of the embedded engine.", no_args_is_help=True)
database = typer.Typer(help="The database: its version, backups.", no_args_is_help=True)
app.add_typer(keys, name="keys")
app.add_typer(users, name="users")
app.add_typer(models, name="models")
app.add_typer(database, name="db")


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"triplane {version('triplane')}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
def serve() -> None:
    """Start everything, and print the address and a one-time sign-in link."""
    from triplane.cli.serve import serve

    serve(read_settings())


@app.command()
def api() -> None:
    """Run one API worker, for set-ups where something else starts the processes."""
    from triplane.cli.processes import run_api_process

    run_api_process(read_settings())


@app.command()
def worker() -> None:
    """Run one job worker."""
    from triplane.cli.processes import run_worker_process

    run_worker_process(read_settings())


@app.command()
def engine() -> None:
    """Run the embedded engine alone."""
    from triplane.cli.processes import run_engine_process

    run_engine_process(read_settings())


@app.command("simulated-engine")
def simulated_engine(
    gpu: Annotated[str, typer.Option(help="b200, h200, h100, a100, l40s or l4.")] = "h100",
    gpus: Annotated[int, typer.Option(min=1, help="GPUs that share the model.")] = 1,
    model: Annotated[
        str, typer.Option(help="smollm2, llama-8b, qwen-32b, llama-70b or llama-405b.")
    ] = "llama-8b",
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free.")] = 0,
    control_port: Annotated[int, typer.Option(min=0, max=65535, help="Stays open in every fault.")] = 0,
    speed: Annotated[float, typer.Option(min=0, help="Simulated seconds in a real one; 0: no delay.")] = 1.0,
    max_model_len: Annotated[int | None, typer.Option(min=1, help="The context, in tokens.")] = None,
    max_num_seqs: Annotated[int, typer.Option(min=1, help="Sequences in a batch.")] = 256,
    max_num_batched_tokens: Annotated[int, typer.Option(min=1, help="Tokens in a step.")] = 8192,
    num_gpu_blocks_override: Annotated[int | None, typer.Option(min=1, help="KV blocks.")] = None,
    scheduling_policy: Annotated[
        Literal["fcfs", "priority"], typer.Option(help="Who of those waiting comes first.")
    ] = "fcfs",
    kv_role: Annotated[
        Literal["none", "prefill", "decode", "both"], typer.Option(help="Its part in disaggregation.")
    ] = "none",
    hold_s: Annotated[float, typer.Option(min=0, help="How long a prefill's blocks are held.")] = 480.0,
    api_key: Annotated[str | None, typer.Option(envvar="TRIPLANE_ENGINE_API_KEY", help="The key.")] = None,
    answer_tokens: Annotated[int | None, typer.Option(min=1, help="The length of every answer.")] = None,
    fault: Annotated[list[str] | None, typer.Option(help="A fault in JSON; may be repeated.")] = None,
    fault_seed: Annotated[int, typer.Option(help="Decides which requests a fault strikes.")] = 0,
) -> None:
    """Run an engine that is simulated: vLLM's wire and timing, made-up answers (docs/simulated-engine.md)."""
    from triplane.cli.simulated_engine import fault_plan, run_simulated_engine
    from triplane.inference.simulated_engine.options import EngineOptions
    from triplane.inference.simulated_engine.scheduler import Limits

    options = EngineOptions(
        gpu=gpu,
        gpus=gpus,
        model=model,
        speed=speed,
        limits=Limits(max_num_batched_tokens, max_num_seqs, num_gpu_blocks_override, hold_s),
        max_model_len=max_model_len,
        scheduling_policy=scheduling_policy,
        kv_role=kv_role,
        api_key=api_key,
        answer_tokens=answer_tokens,
        faults=fault_plan(fault or (), fault_seed),
    )
    run_simulated_engine(options, host, port, control_port)


@app.command()
def gateway(
    http: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Be an OpenAI-compatible proxy there.")
    ] = None,
    grpc: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="Serve API processes there; unix:/PATH is possible too."),
    ] = None,
    metrics: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="With --grpc: /metrics for Prometheus there.")
    ] = None,
    keys_file: Annotated[
        Path | None, typer.Option("--keys", help="The key file; gateway-keys.toml in the data folder.")
    ] = None,
    usage_log: Annotated[
        Path | None, typer.Option(help="Where usage goes; gateway-usage.jsonl in the data folder.")
    ] = None,
    grace: Annotated[float, typer.Option(min=0, help="Seconds for running answers at a stop.")] = 30.0,
) -> None:
    """Run the gateway alone: a proxy that needs no database, or the one gateway of all API processes."""
    from triplane.cli.gateway import run_http_gateway_process, run_rpc_gateway_process

    if (http is None) == (grpc is None):
        raise typer.BadParameter("say --http HOST:PORT or --grpc HOST:PORT")
    if http is not None:
        run_http_gateway_process(read_settings(), http, keys_file, usage_log, grace)
    else:
        run_rpc_gateway_process(read_settings(), grpc or "", metrics)


@app.command("gateway-key")
def gateway_key(name: Annotated[str, typer.Argument(help="Whom the key is for.")]) -> None:
    """Make a key for the gateway: print it, this once, and the lines for the key file."""
    from triplane.cli.gateway import new_gateway_key

    secret, lines = new_gateway_key(name)
    typer.echo(f"The key, shown only now: {secret}\nPut these lines in the key file:\n", err=True)
    typer.echo(lines, nl=False)


@app.command()
def chat(
    question: Annotated[
        str | None, typer.Argument(help="What to ask; what is piped in follows it. None: a prompt.")
    ] = None,
    url: Annotated[
        str | None, typer.Option(envvar="TRIPLANE_URL", help="The server; this machine's by default.")
    ] = None,
    key: Annotated[str | None, typer.Option(envvar="TRIPLANE_API_KEY", help="An API key.")] = None,
    model: Annotated[str | None, typer.Option(help="The model; the server's first by default.")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="The longest answer, in tokens.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", "-r", help="Go on with the latest conversation.")
    ] = False,
    conversation: Annotated[str | None, typer.Option(help="Go on with this one, by its id.")] = None,
    search: Annotated[str | None, typer.Option(help="Find words in your conversations.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="A line of JSON, for scripts.")] = False,
    plain: Annotated[bool, typer.Option("--plain", help="Don't render Markdown.")] = False,
) -> None:
    """Ask one question, or chat at a prompt."""
    from triplane.cli.chat import ChatOptions, chat

    options = ChatOptions(
        words=question,
        url=url,
        key=key,
        model=model,
        max_tokens=max_tokens,
        conversation=conversation,
        resume=resume,
        search=search,
        as_json=as_json,
        plain=plain,
    )
    chat(read_settings(), options)


@app.command()
def top(
    url: Annotated[
        str | None, typer.Option(envvar="TRIPLANE_URL", help="The server; this machine's by default.")
    ] = None,
    key: Annotated[
        str | None, typer.Option(envvar="TRIPLANE_API_KEY", help="An administrator's API key.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Once, as JSON, for scripts.")] = False,
) -> None:
    """Watch the engines: queues, load, latencies, errors, each second."""
    from triplane.cli.top import top

    top(read_settings(), url, key, as_json=as_json)


@app.command("sign-in-link")
def sign_in_link() -> None:
    """Print a new one-time link that signs the administrator in."""
    from triplane.cli.accounts import make_sign_in_link

    typer.echo(asyncio.run(make_sign_in_link(read_settings())))


@app.command()
def doctor() -> None:
    """Say in plain words what is wrong with this set-up."""
    from triplane.cli.doctor import examine

    raise typer.Exit(examine(read_settings()))


@keys.command("create")
def keys_create(
    name: Annotated[str, typer.Argument(help="What the key is for.")],
    cache_answers: Annotated[
        bool, typer.Option("--cache-answers", help="Answer a repeated deterministic request from memory.")
    ] = False,
) -> None:
    """Make an API key and print it, this once."""
    from triplane.cli.accounts import create_key

    typer.echo(asyncio.run(create_key(read_settings(), name, caches_answers=cache_answers)))


@keys.command("list")
def keys_list() -> None:
    """List the API keys; never their secrets."""
    from triplane.cli.accounts import list_keys

    for line in asyncio.run(list_keys(read_settings())):
        typer.echo(line)


@keys.command("revoke")
def keys_revoke(key_id: Annotated[str, typer.Argument(metavar="ID", help="From `keys list`.")]) -> None:
    """Revoke an API key for good."""
    from triplane.cli.accounts import revoke_key

    asyncio.run(revoke_key(read_settings(), key_id))
    typer.echo(f"{key_id} is revoked.", err=True)


@users.command("list")
def users_list() -> None:
    """List the users, newest first."""
    from triplane.cli.users import list_users

    for line in asyncio.run(list_users(read_settings())):
        typer.echo(line)


@users.command("create")
def users_create(
    name: Annotated[str, typer.Argument(help="What the user is called.")],
    admin: Annotated[bool, typer.Option("--admin", help="Make an administrator.")] = False,
    plan: Annotated[str | None, typer.Option(help="A plan of the catalogue; none: everybody's.")] = None,
) -> None:
    """Make a user; print their id and, while a server runs, a one-time link that signs them in."""
    from triplane.cli.users import create_user

    for line in asyncio.run(create_user(read_settings(), name, is_admin=admin, plan=plan)):
        typer.echo(line)


@users.command("disable")
def users_disable(
    user_id: Annotated[str, typer.Argument(metavar="ID", help="From `users list`.")],
    undo: Annotated[bool, typer.Option("--undo", help="Let the user in again.")] = False,
) -> None:
    """Shut a user out at once: sessions, keys, streams and running answers. Nothing is deleted."""
    from triplane.cli.users import disable_user

    asyncio.run(disable_user(read_settings(), user_id, disabled=not undo))
    typer.echo(f"{user_id} is {'enabled' if undo else 'disabled'}.", err=True)


@users.command("plan")
def users_plan(
    user_id: Annotated[str, typer.Argument(metavar="ID", help="From `users list`.")],
    plan: Annotated[str, typer.Argument(help="A plan of the catalogue.")],
) -> None:
    """Put a user on a plan."""
    from triplane.cli.users import set_plan

    asyncio.run(set_plan(read_settings(), user_id, plan))
    typer.echo(f"{user_id} is on {plan}.", err=True)


@models.command("pull")
def models_pull(name: Annotated[str, typer.Argument(help="A name from `models list`.")] = "smollm2") -> None:
    """Fetch a model file into the data folder, and check it."""
    from triplane.cli.models import pull_model

    typer.echo(pull_model(read_settings(), name))


@models.command("list")
def models_list() -> None:
    """List what is served, by which routes and at what price, and the model files."""
    from triplane.cli.model_lists import list_models

    for line in list_models(read_settings()):
        typer.echo(line)


@models.command("test")
def models_test(
    model: Annotated[str | None, typer.Argument(help="A model of the catalogue; None: every route.")] = None,
) -> None:
    """Ask every replica for a few tokens, and say which work. Status 1 if any doesn't."""
    from triplane.cli.trials import try_models

    raise typer.Exit(asyncio.run(try_models(read_settings(), model, typer.echo)))


@database.command("status")
def database_status() -> None:
    """Say whether the database is at this program's version."""
    from triplane.cli.database import status

    raise typer.Exit(asyncio.run(status(read_settings(), typer.echo)))


@database.command("migrate")
def database_migrate() -> None:
    """Bring the database to this program's version."""
    from triplane.cli.database import migrate_database

    asyncio.run(migrate_database(read_settings(), typer.echo))


@database.command("backup")
def database_backup(file: Annotated[Path, typer.Argument(help="The file to write.")]) -> None:
    """Write the whole database to a file."""
    from triplane.cli.database import backup_database

    asyncio.run(backup_database(read_settings(), file))


@database.command("restore")
def database_restore(
    file: Annotated[Path, typer.Argument(help="A file that `db backup` wrote.")],
    replace: Annotated[bool, typer.Option("--replace", help="Give up what the database holds now.")] = False,
) -> None:
    """Put a backup into an empty database; or, with --replace, in the place of what it holds."""
    from triplane.cli.database import restore_database

    asyncio.run(restore_database(read_settings(), file, replace=replace))


def run() -> None:
    """The program's entry: what a person can set right is one sentence, not a traceback."""
    from triplane.adapters.embedded.server_folder import EmbeddedServerError
    from triplane.cli.errors import CommandFailed
    from triplane.domain.errors import TriplaneError
    from triplane.inference.catalogue import CatalogueError

    try:
        app()
    except (CommandFailed, TriplaneError, SettingsError, CatalogueError, EmbeddedServerError) as error:
        typer.echo(f"triplane: {error}", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # The reader left (`| head`). What is still to be flushed at the exit has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except OSError as error:
        typer.echo(f"triplane: {error}", err=True)
        sys.exit(1)
