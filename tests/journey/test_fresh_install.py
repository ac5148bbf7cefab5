"""What `make` does on a fresh machine, as far as it can be seen without installing everything anew."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SYSTEM = "/usr/bin:/bin"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The files that installing reads, in a folder of their own."""
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    return tmp_path


def program(folder: Path, name: str, text: str) -> Path:
    """A program of this name, in a folder that can be put on PATH."""
    folder.mkdir(exist_ok=True)
    file = folder / name
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)
    return file


def run(folder: Path, *command: str, path: str = SYSTEM) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command,
        cwd=folder,
        env={"PATH": path, "HOME": str(folder)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def bare_path(folder: Path) -> str:
    """A PATH with the shell's everyday programs, and neither Python nor Node."""
    tools = folder / "tools"
    tools.mkdir()
    for name in ("bash", "sh", "dirname", "cat", "cksum", "mktemp", "rm", "find", "sort", "xargs", "id"):
        found = shutil.which(name, path=SYSTEM)
        assert found is not None
        (tools / name).symlink_to(found)
    return str(tools)


def test_a_python_that_cannot_run_is_passed_over(checkout: Path, tmp_path: Path) -> None:
    shims = tmp_path / "shims"
    program(shims, "python3.12", "echo 'version not installed' >&2; exit 127")
    good = program(shims, "python3.11", f'exec "{sys.executable}" "$@"')

    found = run(checkout, "scripts/find-python", path=f"{shims}:{bare_path(tmp_path)}")

    assert found.stdout.strip() == str(good)


def test_without_a_fitting_python_it_says_what_to_install(checkout: Path, tmp_path: Path) -> None:
    script = checkout / "scripts" / "find-python"
    script.write_text(script.read_text().replace("/usr/bin/python3", ""))

    refused = run(checkout, "bash", "scripts/install", path=bare_path(tmp_path))

    assert refused.returncode != 0
    assert "Triplane needs Python 3.11" in refused.stderr


def test_a_venv_that_cannot_be_made_says_what_to_install(checkout: Path, tmp_path: Path) -> None:
    script = checkout / "scripts" / "install"
    script.write_text(script.read_text().replace("$(id -u)", "1000"))
    shims = tmp_path / "shims"
    refuse = 'if [ "$2" = venv ]; then echo "ensurepip is not available"; exit 1; fi'
    program(shims, "python3.12", f'{refuse}; exec "{sys.executable}" "$@"')

    refused = run(checkout, "scripts/install", path=f"{shims}:{SYSTEM}")

    assert refused.returncode == 1
    assert "python3-venv" in refused.stderr


def test_an_environment_that_is_current_is_left_as_it_is(tmp_path: Path) -> None:
    if not (ROOT / ".venv" / ".triplane-installed").exists():
        pytest.skip("This environment wasn't made by `make install`.")

    again = run(ROOT, "scripts/install", path=os.environ["PATH"])

    assert (again.returncode, again.stdout) == (0, "")


def test_without_node_the_page_is_said_to_be_missing_and_that_is_no_error(
    checkout: Path, tmp_path: Path
) -> None:
    path = bare_path(tmp_path)
    (checkout / "web").mkdir()

    optional = run(checkout, "bash", "scripts/web", "--optional", path=path)
    wanted = run(checkout, "bash", "scripts/web", path=path)

    assert optional.returncode == 0
    assert "Node.js 20 or newer is missing" in optional.stderr
    assert "The API and the terminal client work" in optional.stderr
    assert wanted.returncode == 1


def test_the_lock_file_names_no_place_of_the_machine_that_made_it() -> None:
    lines = (ROOT / "requirements.lock").read_text().splitlines()

    pins = [line for line in lines if line and not line.startswith((" ", "#"))]

    assert len(pins) > 100
    assert all("==" in pin and "@" not in pin and "://" not in pin for pin in pins)
    assert not [line for line in lines if line.startswith("--")]


def test_every_dependency_of_the_project_is_pinned() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    pins = {line.split("==")[0] for line in (ROOT / "requirements.lock").read_text().splitlines()}

    names = {wish.split(">")[0].split("=")[0].lower().replace("_", "-") for wish in wanted}

    assert names <= pins
