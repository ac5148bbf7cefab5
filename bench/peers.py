"""The gateways that ours is measured beside: how each is installed and started, with its own advice for load.

Each is installed in a folder of its own in the user's cache, never among what this project needs.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from bench.proxy import free_port

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "triplane-bench-peers"
_INSTALL_S = 900.0
MODEL = "zero-delay"


class NotInstalled(Exception):
    """The peer can't be had here; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Started:
    """What to run, and with which headers and environment it is asked."""

    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    key: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Peer:
    """`does`: what of ours it does too. `start` gets the port to listen at, the engine's and a folder.

    `is_slow`: it gets a tenth of the load, so that a run ends."""

    name: str
    does: str
    start: Callable[[int, int, Path], Started]
    install: Callable[[], None] = lambda: None
    version: Callable[[], str] = lambda: ""
    is_slow: bool = False


def _install_python(name: str, *packages: str) -> None:
    folder = CACHE / name
    if (folder / "installed").exists():
        return
    _run(sys.executable, "-m", "venv", "--clear", str(folder))
    _run(str(folder / "bin" / "pip"), "install", "--quiet", *packages)
    (folder / "installed").touch()


def _install_portkey() -> None:
    """With a web server of its time: behind a newer one than 1.13.7 its streams fail (`immutable`)."""
    folder = CACHE / "portkey"
    if (folder / "installed").exists():
        return
    if shutil.which("npm") is None:
        raise NotInstalled("there is no npm here")
    folder.mkdir(parents=True, exist_ok=True)
    wanted = {
        "dependencies": {"@portkey-ai/gateway": "latest"},
        "overrides": {"@hono/node-server": "1.13.7"},
    }
    (folder / "package.json").write_bytes(msgspec.json.encode(wanted))
    _run("npm", "install", "--no-fund", "--no-audit", "--prefix", str(folder))
    (folder / "installed").touch()


def _install_nginx() -> None:
    if shutil.which("nginx") is None:
        _run("apt-get", "install", "-y", "-qq", "--no-install-recommends", "nginx-light")


def _run(*command: str) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=_INSTALL_S)
    except (OSError, subprocess.SubprocessError) as error:
        raise NotInstalled(f"`{' '.join(command[:4])} …` failed") from error


def _python_version(name: str, package: str) -> Callable[[], str]:
    def version() -> str:
        lines = _output(str(CACHE / name / "bin" / "pip"), "show", package).splitlines()
        return next((line.partition(": ")[2] for line in lines if line.startswith("Version: ")), "")

    return version


def _portkey_version() -> str:
    return _output("npm", "list", "--prefix", str(CACHE / "portkey")).rpartition("@")[2].strip()


def _nginx_version() -> str:
    return _output("nginx", "-v").rpartition("/")[2].strip()


def _output(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.stdout + done.stderr


def _litellm(port: int, engine_port: int, folder: Path) -> Started:
    config = folder / "litellm.yaml"
    config.write_text(
        f"model_list:\n"
        f"  - model_name: {MODEL}\n"
        f"    litellm_params:\n"
        f"      model: openai/{MODEL}\n"
        f"      api_base: http://127.0.0.1:{engine_port}/v1\n"
        f"      api_key: none\n"
        f"general_settings:\n"
        f"  master_key: sk-bench\n"
        f"litellm_settings:\n"
        f"  request_timeout: 600\n"
    )
    command = str(CACHE / "litellm" / "bin" / "litellm")
    options = ("--config", str(config), "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1")
    environment = {
        "LITELLM_LOG": "ERROR",
        "LITELLM_MODE": "PRODUCTION",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "REPEATED_STREAMING_CHUNK_LIMIT": "1000000000",  # the engine has one word only
    }
    return Started(command=(command, *options), environment=environment, key="sk-bench")


def _portkey(port: int, engine_port: int, folder: Path) -> Started:
    server = CACHE / "portkey" / "node_modules" / "@portkey-ai" / "gateway" / "build" / "start-server.js"
    return Started(
        command=("node", str(server), f"--port={port}", "--headless"),
        environment={"NODE_ENV": "production", "TRUSTED_CUSTOM_HOSTS": "127.0.0.1,localhost"},
        key="none",
        headers={
            "x-portkey-provider": "openai",
            "x-portkey-custom-host": f"http://127.0.0.1:{engine_port}/v1",
        },
    )


def _sglang(port: int, engine_port: int, folder: Path) -> Started:
    return Started(
        command=(
            *(str(CACHE / "sglang-router" / "bin" / "sglang-router"), "launch"),
            *("--host", "127.0.0.1", "--port", str(port)),
            *("--worker-urls", f"http://127.0.0.1:{engine_port}"),
            *("--policy", "cache_aware", "--log-level", "error", "--disable-health-check"),
            *("--max-concurrent-requests", "4096", "--prometheus-port", str(free_port())),
        )
    )


def _aiohttp(port: int, engine_port: int, folder: Path) -> Started:
    return Started(command=(sys.executable, "-m", "bench.relay_aiohttp", str(port), str(engine_port)))


def _nginx(port: int, engine_port: int, folder: Path) -> Started:
    config = folder / "nginx.conf"
    config.write_text(
        f"daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/error.log;\n"
        f"worker_rlimit_nofile 8192;\n"
        f"events {{ worker_connections 4096; }}\n"
        f"http {{ access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;\n"
        f"  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;\n"
        f"  keepalive_requests 1000000;\n"
        f"  upstream engine {{ server 127.0.0.1:{engine_port}; keepalive 1024;\n"
        f"    keepalive_requests 1000000; }}\n"
        f"  server {{ listen 127.0.0.1:{port} backlog=2048;\n"
        f"    location / {{ proxy_pass http://engine; proxy_http_version 1.1; proxy_buffering off;\n"
        f'      proxy_set_header Connection ""; proxy_read_timeout 600s; }} }} }}\n'
    )
    nginx = shutil.which("nginx") or "/usr/sbin/nginx"
    return Started(command=(nginx, "-c", str(config), "-e", str(folder / "error.log")))


PEERS = (
    Peer(
        name="LiteLLM proxy",
        does="keys, routing, retries, metering",
        install=lambda: _install_python("litellm", "litellm[proxy]"),
        version=_python_version("litellm", "litellm"),
        start=_litellm,
        is_slow=True,
    ),
    Peer(
        name="Portkey gateway",
        does="routing, retries",
        install=_install_portkey,
        version=_portkey_version,
        start=_portkey,
        is_slow=True,
    ),
    Peer(
        name="sglang-router",
        does="routing, retries, breakers, metrics; Rust",
        install=lambda: _install_python("sglang-router", "sglang-router"),
        version=_python_version("sglang-router", "sglang-router"),
        start=_sglang,
    ),
    Peer(name="aiohttp relay", does="nothing but the relay", start=_aiohttp),
    Peer(
        name="nginx",
        does="nothing but the relay; C",
        install=_install_nginx,
        version=_nginx_version,
        start=_nginx,
    ),
)
