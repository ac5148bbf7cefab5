"""The program's face: help, version, and one plain sentence for what a person can set right."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from triplane.cli import app
from triplane.cli import run as run_program
from triplane.cli.listening import free_port
from triplane.cli.models import list_models, progress_lines
from triplane.cli.secret import signing_secret
from triplane.cli.waiting import http_status
from triplane.settings import Settings, SettingsError, read_settings


def settings_in(folder: Path, **more: str) -> Settings:
    return read_settings({"TRIPLANE_DATA_DIR": str(folder), **more})


@dataclass(frozen=True)
class Ended:
    """How a command ended, and what it said."""

    status: object
    out: str
    err: str


Run = Callable[..., Ended]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command in this process, with nothing piped in."""

    def command(*words: str, **environment: str) -> Ended:
        for name in [name for name in os.environ if name.startswith("TRIPLANE_")]:
            monkeypatch.delenv(name)
        for name, value in {"TRIPLANE_DATA_DIR": str(tmp_path), **environment}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr("sys.argv", ["triplane", *words])
        with open(os.devnull) as nothing, monkeypatch.context() as patched:
            patched.setattr("sys.stdin", nothing)
            with pytest.raises(SystemExit) as ended:
                run_program()
        return Ended(ended.value.code, *capsys.readouterr())

    return command


@pytest.mark.parametrize(
    "command", [[], ["keys"], ["models"], ["db"], ["serve"], ["chat"], ["doctor"], ["simulated-engine"]]
)
def test_every_command_explains_itself(command: list[str]) -> None:
    assert CliRunner().invoke(app, [*command, "--help"]).exit_code == 0


def test_the_version_is_printed() -> None:
    assert CliRunner().invoke(app, ["--version"]).output.startswith("triplane 0.")


def test_help_loads_no_server_code() -> None:
    program = (
        "import sys; from triplane.cli import app\n"
        "print([name for name in ('litestar', 'asyncpg', 'aiohttp', 'xllamacpp') if name in sys.modules])"
    )

    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert loaded.stdout.strip() == "[]"


def test_a_bad_setting_is_one_sentence_and_status_1(run: Run) -> None:
    refused = run("doctor", TRIPLANE_PORT="many")

    assert refused.status == 1
    assert refused.err == "triplane: TRIPLANE_PORT is 'many': write a whole number.\n"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--gpu", "voodoo2"], "There is no GPU 'voodoo2' to simulate: take one of b200, h200"),
        (["--model", "llama-405b"], "llama-405b doesn't fit 1 × h100: its weights alone take 5.6 of them."),
        (["--fault", '{"kind": "earthquake"}'], "A --fault can't be read: Invalid value 'earthquake'"),
    ],
)
def test_what_cannot_be_simulated_is_one_sentence(run: Run, words: list[str], sentence: str) -> None:
    refused = run("simulated-engine", *words)

    assert refused.status == 1
    assert refused.err.startswith(f"triplane: {sentence}")
    assert refused.err.count("\n") == 1


def test_an_api_process_without_addresses_names_what_is_missing(run: Run) -> None:
    refused = run("api", TRIPLANE_REDIS_URL="redis://localhost")

    assert refused.status == 1
    assert "TRIPLANE_DATABASE_URL, TRIPLANE_ENGINE_URL, TRIPLANE_SECRET" in refused.err
    assert "Traceback" not in refused.err


def test_a_chat_without_a_server_says_what_to_do(run: Run) -> None:
    refused = run("chat", "Hello?")

    assert refused.status == 1
    assert "triplane serve" in refused.err


def test_an_unknown_model_names_those_that_are_known(run: Run) -> None:
    refused = run("models", "pull", "gpt-9")

    assert refused.status == 1
    assert "smollm2" in refused.err


def test_the_secret_is_made_once_and_private(tmp_path: Path) -> None:
    folder = tmp_path / "data"

    first = signing_secret(settings_in(folder))

    assert len(first) >= 43
    assert signing_secret(settings_in(folder)) == first
    assert (folder / "secret").stat().st_mode & 0o777 == 0o600


def test_a_secret_of_the_settings_wins(tmp_path: Path) -> None:
    assert signing_secret(settings_in(tmp_path, TRIPLANE_SECRET="mine")) == "mine"


def test_models_that_are_not_here_say_how_to_get_them(tmp_path: Path) -> None:
    assert list_models(settings_in(tmp_path)) == ["smollm2  not here: triplane models pull smollm2"]


def test_progress_is_a_line_for_each_tenth() -> None:
    said: list[str] = []
    progress = progress_lines("smollm2", said.append)

    for done in range(0, 100_000_001, 1_000_000):
        progress(done, 100_000_000)

    assert said[0] == "Fetching the model smollm2: 0 of 100 MB"
    assert said[-1] == "Fetching the model smollm2: 100 of 100 MB"
    assert len(said) == 11


async def test_nothing_listening_is_no_status() -> None:
    assert await http_status(f"http://127.0.0.1:{free_port()}/") is None


def test_an_engine_kind_that_is_unknown_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="TRIPLANE_ENGINE_KIND"):
        settings_in(tmp_path, TRIPLANE_ENGINE_KIND="abacus")


def test_a_data_folder_that_cannot_be_made_is_one_sentence(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")

    refused = run("serve", TRIPLANE_DATA_DIR=str(tmp_path / "file" / "data"))

    assert refused.status == 1
    assert "TRIPLANE_DATA_DIR" in refused.err
    assert len(refused.err.splitlines()) == 1
