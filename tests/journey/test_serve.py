"""`triplane serve` from its first start to its last breath, with the real servers and the real model."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from serve_process import ServeProcess, data_folder, run_triplane, serving

pytestmark = pytest.mark.timeout(300)

SECONDS_FOR_A_SECOND_START = 15.0


@pytest.fixture
def data_dir() -> Iterator[Path]:
    with data_folder() as folder:
        yield folder


def complete(server: ServeProcess, text: str = "Say hello.") -> str:
    """One answer through all planes."""
    body = {"model": "smollm2", "max_tokens": 8, "messages": [{"role": "user", "content": text}]}
    request = urllib.request.Request(
        f"{server.url}/v1/chat/completions",
        data=json.dumps(body).encode(),
        headers={"authorization": f"Bearer {server.key}", "content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        return str(json.load(response)["choices"][0]["message"]["content"])


def test_it_serves_real_answers_and_a_second_start_takes_seconds(data_dir: Path) -> None:
    with serving(data_dir) as server:
        assert complete(server)
    key = server.key

    began = time.monotonic()
    with serving(data_dir) as again:
        took = time.monotonic() - began
        again._key = key
        assert complete(again)

    assert took < SECONDS_FOR_A_SECOND_START


def test_two_workers_share_one_gateway_which_comes_back_when_it_is_killed(data_dir: Path) -> None:
    with serving(data_dir, TRIPLANE_WORKERS="2") as server:
        assert complete(server)
        [gateway] = [each for each in server.family() if "gateway" in each.cmdline()]
        gateway.kill()

        server.wait_for(re.compile("The gateway serves again"), timeout_s=30)
        assert answered_in_the_end(server)
        [another] = [each for each in server.family() if "gateway" in each.cmdline()]

    assert another.pid != gateway.pid


def answered_in_the_end(server: ServeProcess) -> str:
    """An answer, asked for until there is one: a client does so when it is told 503."""
    deadline = time.monotonic() + 20
    while True:
        try:
            return complete(server)
        except urllib.error.HTTPError as refused:
            if refused.code not in (502, 503) or time.monotonic() > deadline:
                raise
            refused.close()


def test_the_sign_in_link_signs_in_once(served: ServeProcess) -> None:
    made = run_triplane(served.data_dir, "sign-in-link")
    link = made.stdout.strip()

    first = urllib.request.build_opener(urllib.request.HTTPCookieProcessor()).open(link, timeout=30)
    with first, pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(link, timeout=30)

    assert first.status == 200
    assert 400 <= refused.value.code < 500
    refused.value.close()


def test_a_taken_port_gives_way_to_the_next_free_one(data_dir: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = int(taken.getsockname()[1])

        with serving(data_dir, TRIPLANE_PORT=str(port)) as server:
            assert f"Port {port} is taken" in "".join(server.lines)
            assert not server.url.endswith(f":{port}")


def test_ctrl_c_stops_every_process_within_seconds(data_dir: Path) -> None:
    with serving(data_dir) as server:
        assert len(server.family()) >= 5
        began = time.monotonic()
        server.interrupt()
        took = time.monotonic() - began

    assert server.process.returncode == 0
    assert server.survivors() == []
    assert took < 10


def test_a_second_serve_on_the_same_folder_says_so_and_ends(served: ServeProcess) -> None:
    second = run_triplane(served.data_dir, "serve")

    assert second.returncode == 1
    assert "in use by another triplane process" in second.stderr
    assert "Traceback" not in second.stderr


def test_after_kill_9_of_the_supervisor_nothing_is_left_and_the_next_start_serves(data_dir: Path) -> None:
    with serving(data_dir) as server:
        key = server.key
        server.kill()

    with serving(data_dir) as again:
        assert server.survivors() == []
        again._key = key
        assert complete(again)


def test_after_kill_9_of_all_at_once_the_next_start_serves(data_dir: Path) -> None:
    with serving(data_dir) as server:
        for process in server.family():
            with contextlib.suppress(psutil.NoSuchProcess):  # PostgreSQL's own come and go
                process.kill()
        server.kill()

    with serving(data_dir) as again:
        assert complete(again)


@pytest.mark.parametrize("victim", ["engine", "api", "worker"])
def test_a_killed_process_is_started_again_and_it_serves_again(served: ServeProcess, victim: str) -> None:
    process = next(found for found in served.family() if found.cmdline()[-1] == victim)
    said_before = len(served.lines)

    process.kill()
    deadline = time.monotonic() + 60
    while not any("serves again" in line for line in served.lines[said_before:]):
        assert time.monotonic() < deadline, "".join(served.lines[said_before:])
        time.sleep(0.05)

    assert complete(served)


def test_no_secret_stands_in_a_command_line(served: ServeProcess) -> None:
    state = json.loads((served.data_dir / "run" / "state.json").read_text())
    secret = (served.data_dir / "secret").read_text().strip()

    words = [word for process in served.family() for word in process.cmdline()]

    assert words
    assert not [word for word in words if state["engine_api_key"] in word or secret in word]


def test_the_engine_answers_nobody_without_its_key(served: ServeProcess) -> None:
    state = json.loads((served.data_dir / "run" / "state.json").read_text())

    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{state['engine_url']}/models", timeout=10)

    assert refused.value.code == 401
    refused.value.close()


def test_keys_create_prints_the_key_alone_while_it_serves_and_while_it_does_not(data_dir: Path) -> None:
    before = run_triplane(data_dir, "keys", "create", "before")
    with serving(data_dir) as server:
        during = run_triplane(data_dir, "keys", "create", "during")
        for made in (before, during):
            assert made.returncode == 0, made.stderr
            assert re.fullmatch(r"tp-[\w-]{43}\n", made.stdout)
            server._key = made.stdout.strip()
            assert complete(server)
    listed = run_triplane(data_dir, "keys", "list")

    assert {line.split()[-1] for line in listed.stdout.splitlines()} >= {"before", "during"}


def test_a_revoked_key_is_refused(served: ServeProcess) -> None:
    key = run_triplane(served.data_dir, "keys", "create", "short-lived").stdout.strip()
    listed = run_triplane(served.data_dir, "keys", "list").stdout
    key_id = next(line.split()[0] for line in listed.splitlines() if line.endswith("short-lived"))

    revoked = run_triplane(served.data_dir, "keys", "revoke", key_id)
    request = urllib.request.Request(f"{served.url}/v1/models", headers={"authorization": f"Bearer {key}"})
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=10)

    assert revoked.returncode == 0
    assert refused.value.code == 401
    refused.value.close()


def test_revoking_an_unknown_key_is_one_plain_sentence(served: ServeProcess) -> None:
    refused = run_triplane(served.data_dir, "keys", "revoke", "key_" + "0" * 32)

    assert refused.returncode == 1
    assert refused.stdout == ""
    assert len(refused.stderr.splitlines()) == 1


def test_two_commands_at_once_on_a_stopped_server_both_succeed(data_dir: Path) -> None:
    from serve_process import TRIPLANE, environment_of

    commands = [
        subprocess.Popen(
            [TRIPLANE, "keys", "create", name],
            env=environment_of(data_dir),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in ("one", "two")
    ]
    said = [command.communicate(timeout=90) for command in commands]

    assert [command.returncode for command in commands] == [0, 0], said
    assert len({key for key, _ in said}) == 2


def test_doctor_finds_a_running_server_well(served: ServeProcess) -> None:
    examined = run_triplane(served.data_dir, "doctor")

    assert "ok       PostgreSQL" in examined.stdout
    assert "ok       Redis" in examined.stdout
    assert "ok       Engine" in examined.stdout
    assert "ok       API" in examined.stdout
    assert examined.returncode == (0 if "All is well" in examined.stdout else 1)


def test_doctor_says_what_is_wrong_and_what_helps(data_dir: Path) -> None:
    examined = run_triplane(data_dir, "doctor", TRIPLANE_REDIS_URL="redis://127.0.0.1:1")

    assert examined.returncode == 1
    assert re.search(r"problem  Redis: .*Check TRIPLANE_REDIS_URL", examined.stdout)


def test_a_bad_setting_is_one_plain_sentence(data_dir: Path) -> None:
    refused = run_triplane(data_dir, "serve", TRIPLANE_PORT="many")

    assert refused.returncode == 1
    assert "TRIPLANE_PORT" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


def test_a_backup_is_restored_into_another_folder(data_dir: Path) -> None:
    file = data_dir / "copy.backup"
    run_triplane(data_dir, "keys", "create", "kept")

    with data_folder() as other:
        backed_up = run_triplane(data_dir, "db", "backup", str(file))
        restored = run_triplane(other, "db", "restore", str(file))
        listed = run_triplane(other, "keys", "list")

    assert (backed_up.returncode, restored.returncode) == (0, 0), backed_up.stderr + restored.stderr
    assert listed.stdout.endswith("kept\n")


def test_terminating_while_it_starts_leaves_nothing(data_dir: Path) -> None:
    server = ServeProcess(data_dir, {})
    server.wait_for(re.compile("Starting the engine"))
    family = server.family()

    os.kill(server.process.pid, signal.SIGTERM)
    server.process.wait(30)
    server.close()

    _, alive = psutil.wait_procs(family, timeout=5)
    assert alive == []
