"""The settings: one frozen tree, read once from the environment. A bad value stops the start.

Only `main` and the command line read this; rooms get the parts they need as arguments.
`docs/operations.md` lists the variables for operators.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec
import platformdirs

from triplane.domain.limits import DEFAULT_PLAN

_WEB_DIST = Path(__file__).parents[2] / "web" / "dist"
"""Where `make web` puts the page."""


class SettingsError(Exception):
    """A variable has a value that can't be used; the message names it and says what would do."""


class EngineSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`url` None runs the embedded llama.cpp engine; else any OpenAI-compatible base URL (`…/v1`).

    `context_length` is tokens for one stream; `parallel` streams run at once in the embedded engine.
    `kind` says what answers at `url`. `model_file` None takes the file of `model`, fetched if need be.
    """

    kind: Literal["llama_cpp", "openai_http"]
    url: str | None
    api_key: str | None
    model: str
    context_length: int
    parallel: int
    model_file: Path | None


class GatewaySettings(msgspec.Struct, frozen=True, kw_only=True):
    """`address` None: the gateway is a library in every process; else that of the process which is it:
    `host:port`, or `unix:/path`. With `is_tls`, the files are PEM: the other side's authority, and one's own
    certificate and key.
    """

    address: str | None
    is_tls: bool
    ca: Path | None
    certificate: Path | None
    key: Path | None


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Addresses that are None mean the embedded server, which `triplane serve` starts.

    `web_dist` is the folder of the built page; it need not exist. `catalogue` None: the one engine of
    `engine` is all there is. `default_plan` names a plan of the catalogue.
    """

    host: str
    port: int
    data_dir: Path
    models_dir: Path
    web_dist: Path
    database_url: str | None
    database_pooled: bool
    database_direct_url: str | None
    redis_url: str | None
    objects_url: str | None
    engine: EngineSettings
    catalogue: Path | None
    gateway: GatewaySettings
    workers: int
    max_body_bytes: int
    secret: str | None
    public_url: str | None
    default_plan: str
    deleted_kept_h: int
    log_level: str
    otlp_endpoint: str | None


def read_settings(environment: Mapping[str, str] = os.environ) -> Settings:
    """The settings of this environment. Raises SettingsError."""
    return Settings(
        host=environment.get("TRIPLANE_HOST", "127.0.0.1"),
        port=_whole_number(environment, "TRIPLANE_PORT", 8400, 0, 65535),
        data_dir=_data_dir(environment),
        models_dir=_path(environment, "TRIPLANE_MODELS_DIR") or _data_dir(environment) / "models",
        web_dist=_path(environment, "TRIPLANE_WEB_DIST") or _WEB_DIST,
        database_url=_address(environment, "TRIPLANE_DATABASE_URL", ("postgresql://", "postgres://")),
        database_pooled=_switch(environment, "TRIPLANE_DATABASE_POOLED"),
        database_direct_url=_address(
            environment, "TRIPLANE_DATABASE_DIRECT_URL", ("postgresql://", "postgres://")
        ),
        redis_url=_address(environment, "TRIPLANE_REDIS_URL", ("redis://", "rediss://", "unix://")),
        objects_url=_address(environment, "TRIPLANE_OBJECTS_URL", ("s3://", "gs://", "az://", "file://")),
        engine=EngineSettings(
            kind=_engine_kind(environment),
            url=_address(environment, "TRIPLANE_ENGINE_URL", ("http://", "https://")),
            api_key=environment.get("TRIPLANE_ENGINE_API_KEY"),
            model=environment.get("TRIPLANE_MODEL", "smollm2"),
            context_length=_whole_number(environment, "TRIPLANE_ENGINE_CONTEXT", 8192, 512, 10_000_000),
            parallel=_whole_number(environment, "TRIPLANE_ENGINE_PARALLEL", 4, 1, 256),
            model_file=_path(environment, "TRIPLANE_MODEL_FILE"),
        ),
        catalogue=_catalogue(environment),
        gateway=_gateway(environment),
        workers=_whole_number(environment, "TRIPLANE_WORKERS", 1, 1, 256),
        max_body_bytes=_whole_number(environment, "TRIPLANE_MAX_BODY_BYTES", 4 * 2**20, 1024, 2**31),
        secret=environment.get("TRIPLANE_SECRET"),
        public_url=_address(environment, "TRIPLANE_PUBLIC_URL", ("http://", "https://")),
        default_plan=environment.get("TRIPLANE_PLAN") or DEFAULT_PLAN,
        deleted_kept_h=_whole_number(environment, "TRIPLANE_DELETED_KEPT_H", 24, 0, 24 * 3650),
        log_level=_one_of(environment, "TRIPLANE_LOG_LEVEL", "info", ("debug", "info", "warning", "error")),
        otlp_endpoint=_address(environment, "OTEL_EXPORTER_OTLP_ENDPOINT", ("http://", "https://")),
    )


def _data_dir(environment: Mapping[str, str]) -> Path:
    return _path(environment, "TRIPLANE_DATA_DIR") or Path(platformdirs.user_data_dir("triplane")).resolve()


def _path(environment: Mapping[str, str], name: str) -> Path | None:
    chosen = environment.get(name)
    return Path(chosen).expanduser().resolve() if chosen else None


def _catalogue(environment: Mapping[str, str]) -> Path | None:
    """The file that TRIPLANE_CATALOGUE names, which must be there; or the data folder's, if it is."""
    chosen = _path(environment, "TRIPLANE_CATALOGUE")
    if chosen is not None and not chosen.is_file():
        raise SettingsError(f"TRIPLANE_CATALOGUE is {chosen}: there is no such file.")
    usual = _data_dir(environment) / "models.toml"
    return chosen or (usual if usual.is_file() else None)


def _gateway(environment: Mapping[str, str]) -> GatewaySettings:
    url = _address(environment, "TRIPLANE_GATEWAY", ("grpc://", "grpcs://", "unix:/"))
    return GatewaySettings(
        address=url and url.removeprefix("grpc://").removeprefix("grpcs://").rstrip("/"),
        is_tls=bool(url) and str(url).startswith("grpcs://"),
        ca=_path(environment, "TRIPLANE_GATEWAY_CA"),
        certificate=_path(environment, "TRIPLANE_GATEWAY_CERTIFICATE"),
        key=_path(environment, "TRIPLANE_GATEWAY_KEY"),
    )


def _engine_kind(environment: Mapping[str, str]) -> Literal["llama_cpp", "openai_http"]:
    kind = _one_of(environment, "TRIPLANE_ENGINE_KIND", "openai_http", ("llama_cpp", "openai_http"))
    return "llama_cpp" if kind == "llama_cpp" else "openai_http"


def _whole_number(environment: Mapping[str, str], name: str, default: int, low: int, high: int) -> int:
    text = environment.get(name)
    if text is None:
        return default
    try:
        number = int(text)
    except ValueError:
        raise SettingsError(f"{name} is {text!r}: write a whole number.") from None
    if not low <= number <= high:
        raise SettingsError(f"{name} is {number}: it must lie between {low} and {high}.")
    return number


def _address(environment: Mapping[str, str], name: str, schemes: tuple[str, ...]) -> str | None:
    text = environment.get(name)
    if not text:
        return None
    if not text.startswith(schemes):
        raise SettingsError(f"{name} must start with {' or '.join(schemes)}.")
    return text


def _switch(environment: Mapping[str, str], name: str) -> bool:
    return _one_of(environment, name, "0", ("0", "1", "false", "true")) in ("1", "true")


def _one_of(environment: Mapping[str, str], name: str, default: str, choices: tuple[str, ...]) -> str:
    text = environment.get(name, default).lower()
    if text not in choices:
        raise SettingsError(f"{name} is {text!r}: choose one of {', '.join(choices)}.")
    return text
