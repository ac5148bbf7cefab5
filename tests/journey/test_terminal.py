"""The terminal client against the running product: one question, a piped one, a conversation at a prompt."""

import asyncio
import json
import os
import pty
import re
import select
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import aiohttp
import pytest

from serve_process import TRIPLANE, ServeProcess, data_folder, environment_of, run_triplane

SHORT = ("--max-tokens", "24")

pytestmark = pytest.mark.timeout(300)


class Terminal:
    """A person at a terminal: types lines, reads what appears."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.screen = ""

    def type(self, text: str) -> None:
        os.write(self._descriptor, text.encode())

    def wait_for(self, pattern: str, timeout_s: float = 60.0) -> str:
        """What has appeared since the last wait, up to the pattern."""
        deadline = time.monotonic() + timeout_s
        while not (found := re.search(pattern, self.screen)):
            assert time.monotonic() < deadline, self.screen
            if select.select([self._descriptor], [], [], 0.2)[0]:
                self.screen += os.read(self._descriptor, 65536).decode(errors="replace")
        before, self.screen = self.screen[: found.end()], self.screen[found.end() :]
        return before


@contextmanager
def terminal(server: ServeProcess, *options: str) -> Iterator[tuple[Terminal, "subprocess.Popen[bytes]"]]:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [TRIPLANE, "chat", *options],
        env={**environment_of(server.data_dir), "TERM": "dumb"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=_take_terminal,  # noqa: PLW1509  one ioctl, in a process without threads
    )
    os.close(theirs)
    try:
        yield Terminal(ours), process
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def _take_terminal() -> None:
    """Make the new terminal this session's own, so that Ctrl-C reaches it as it does a person's."""
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def test_one_question_prints_the_answer_alone(served: ServeProcess) -> None:
    asked = run_triplane(served.data_dir, "chat", "Say hello.", *SHORT)

    assert asked.returncode == 0, asked.stderr
    assert asked.stdout.strip()
    assert asked.stdout.endswith("\n")
    assert asked.stderr == ""


async def test_what_is_piped_in_is_part_of_the_question(served: ServeProcess) -> None:
    before = await prompt_tokens(served)

    asked = await asyncio.to_thread(
        run_triplane, served.data_dir, "chat", "What is this?", *SHORT, stdin="lighthouse " * 200
    )

    assert asked.returncode == 0, asked.stderr
    assert await prompt_tokens(served) - before > 200


def test_the_fleet_of_the_running_server_is_shown_and_its_engine_tried(served: ServeProcess) -> None:
    fleet = run_triplane(served.data_dir, "top", "--json")
    tried = run_triplane(served.data_dir, "models", "test")

    assert fleet.returncode == 0, fleet.stderr
    [route] = json.loads(fleet.stdout)["routes"]
    assert (route["name"], route["engine"], route["replicas"][0]["state"]) == (
        "engine",
        "llama_cpp",
        "closed",
    )
    assert tried.returncode == 0, tried.stdout + tried.stderr
    assert tried.stdout.startswith("ok       engine: first token after ")


async def prompt_tokens(served: ServeProcess) -> int:
    """All prompt tokens that were billed so far, on the product's own word."""
    async with aiohttp.ClientSession() as http, http.get(f"{served.url}/metrics") as response:
        lines = (await response.text()).splitlines()
    counts = [line.split()[-1] for line in lines if line.startswith('triplane_tokens_total{kind="prompt"')]
    return round(sum(float(count) for count in counts))


def test_a_reader_that_leaves_early_is_no_error(served: ServeProcess) -> None:
    command = f"'{TRIPLANE}' chat 'Write a long story.' </dev/null | head -c 1"
    piped = subprocess.run(
        ["sh", "-c", command],
        env=environment_of(served.data_dir),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert len(piped.stdout) == 1
    assert "Traceback" not in piped.stderr


def test_a_conversation_at_the_prompt_answers_and_ends(served: ServeProcess) -> None:
    with terminal(served, *SHORT) as (screen, process):
        screen.wait_for("> ")
        screen.type("Hello there!\n")
        answer = screen.wait_for(r"\r\n> ").removeprefix("Hello there!").strip("> \r\n")
        screen.type("/help\n")
        screen.wait_for("/new")
        screen.type("/quit\n")

        assert process.wait(10) == 0
    assert answer


def test_ctrl_c_stops_the_answer_and_not_the_program(served: ServeProcess) -> None:
    with terminal(served) as (screen, process):
        screen.wait_for("> ")
        screen.type("Write a very long story about the sea, with many chapters.\n")
        screen.wait_for(r"chapters\.\r\n\S*.{20}")
        screen.type("\x03")
        screen.wait_for(r"\(stopped\)")
        screen.wait_for("> ")
        screen.type("/quit\n")

        assert process.wait(10) == 0


def test_the_conversation_at_the_prompt_is_in_the_store(served: ServeProcess) -> None:
    import json
    import urllib.request

    with terminal(served, *SHORT) as (screen, process):
        screen.wait_for("> ")
        screen.type("Remember the lighthouse.\n")
        screen.wait_for(r"\r\n> ")
        screen.type("\x04")
        assert process.wait(10) == 0
    headers = {"authorization": f"Bearer {(served.data_dir / 'run' / 'cli.key').read_text()}"}
    request = urllib.request.Request(f"{served.url}/v1/conversations?limit=1", headers=headers)
    with urllib.request.urlopen(request, timeout=30) as response:
        newest = json.load(response)["data"][0]
    request = urllib.request.Request(
        f"{served.url}/v1/conversations/{newest['id']}/messages", headers=headers
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        messages = json.load(response)["data"]

    assert [message["role"] for message in messages] == ["user", "assistant"]
    assert messages[0]["content"] == "Remember the lighthouse."
    assert messages[1]["status"] == "complete"


def test_an_answer_is_given_again_and_both_branches_are_there(served: ServeProcess) -> None:
    with terminal(served, *SHORT) as (screen, process):
        screen.wait_for("> ")
        screen.type("Name a colour.\n")
        screen.wait_for(r"\r\n> ")
        screen.type("/again\n")
        screen.wait_for(r"\r\n> ")
        screen.type("/branches\n")
        listed = screen.wait_for(r"\* +2 .*\r\n> ")
        screen.type("/branch 1\n")
        screen.wait_for(r"\r\n> ")
        screen.type("/edit Name a planet.\n")
        screen.wait_for(r"\r\n> ")
        screen.type("/quit\n")
        assert process.wait(10) == 0

    assert re.search(r"^ +1 ", listed, re.MULTILINE)


def test_a_conversation_is_resumed_where_it_was_left(served: ServeProcess) -> None:
    with terminal(served, *SHORT) as (screen, process):
        screen.wait_for("> ")
        screen.type("The code word is pelican.\n")
        screen.wait_for(r"\r\n> ")
        screen.type("/quit\n")
        assert process.wait(10) == 0

    with terminal(served, *SHORT, "--resume") as (screen, process):
        resumed = screen.wait_for("Type a message")
        screen.type("/list\n")
        listed = screen.wait_for(r"  1  .*\r\n(.*\r\n)*> ")
        screen.type("/open 1\n")
        opened = screen.wait_for("pelican")
        screen.type("/quit\n")
        assert process.wait(10) == 0

    assert "> The code word is pelican." in resumed
    assert re.search(r"1  \d{4}-\d\d-\d\d", listed)
    assert opened


def test_a_script_gets_one_line_of_json(served: ServeProcess) -> None:
    asked = run_triplane(served.data_dir, "chat", "--json", "Say hello.", *SHORT)

    assert asked.returncode == 0, asked.stderr
    told = json.loads(asked.stdout)
    assert told["answer"]
    assert told["finish_reason"] in ("stop", "length")
    assert told["usage"]["completion_tokens"] > 0
    assert told["model"] == "smollm2"


def test_without_a_server_it_says_what_to_do() -> None:
    with data_folder() as empty:
        asked = run_triplane(empty, "chat", "Hello?")

    assert asked.returncode == 1
    assert "triplane serve" in asked.stderr
    assert len(asked.stderr.splitlines()) == 1


def test_a_wrong_key_is_refused_plainly(served: ServeProcess) -> None:
    asked = run_triplane(served.data_dir, "chat", "Hello?", "--url", served.url, "--key", "tp-wrong")

    assert asked.returncode == 1
    assert "key" in asked.stderr
    assert "Traceback" not in asked.stderr


def test_a_revoked_stored_key_is_replaced(served: ServeProcess) -> None:
    (served.data_dir / "run" / "cli.key").write_text("tp-" + "x" * 43)

    asked = run_triplane(served.data_dir, "chat", "Say hello.", *SHORT)

    assert asked.returncode == 0, asked.stderr
    assert asked.stdout.strip()
