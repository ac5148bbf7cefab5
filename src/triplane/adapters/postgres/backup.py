"""Backups: one compressed file by `pg_dump`, restored by `pg_restore` in one transaction.

These block: they are for the command line.
"""

import os
import shutil
import subprocess
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

from triplane.adapters.embedded.postgres import programs_folder
from triplane.adapters.embedded.server_folder import EmbeddedServerError

_TIMEOUT_S = 24 * 3600.0


class BackupError(Exception):
    """A backup or restore couldn't be done; the message says why."""


def backup(url: str, path: Path) -> None:
    """Write everything in the database to the new file `path`. Raises BackupError.

    The file appears once it is whole; the server goes on serving meanwhile.
    """
    if path.exists():
        raise BackupError(f"{path} exists already. Choose another name.")
    unfinished = path.with_name(f"{path.name}.unfinished")
    try:
        unfinished.touch(mode=0o600)
        _run("pg_dump", url, "--format=custom", "--no-owner", f"--file={unfinished}")
        unfinished.rename(path)
    except OSError as exc:
        raise BackupError(f"{path} can't be written: {exc.strerror}.") from exc
    finally:
        unfinished.unlink(missing_ok=True)


def restore(url: str, path: Path, *, replace: bool = False) -> None:
    """Put a backup into the database, wholly or not at all. Stop everything that uses it first.

    Raises BackupError; also for a database that isn't empty, unless `replace` is given.
    """
    if not path.is_file():
        raise BackupError(f"There is no file {path}.")
    if not replace and not _is_empty(url):
        raise BackupError("The database isn't empty. Restore into an empty one, or say that it be replaced.")
    clean = ["--clean", "--if-exists"] if replace else []
    options = ["--no-owner", "--single-transaction", "--exit-on-error", *clean]
    _run("pg_restore", url, *options, str(path))


def _is_empty(url: str) -> bool:
    return (
        _run("psql", url, "--no-psqlrc", "--tuples-only", "--no-align", f"--command={_TABLES}").strip() == "0"
    )


_TABLES = """
SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')"""


def _run(program: str, url: str, *arguments: str) -> str:
    address, password = _without_password(url)
    environment = {**os.environ, **({"PGPASSWORD": password} if password else {})}
    done = subprocess.run(  # noqa: S603
        [_program(program), f"--dbname={address}", *arguments],
        capture_output=True,
        check=False,
        timeout=_TIMEOUT_S,
        env=environment,
    )
    if done.returncode != 0:
        raise BackupError(_first_error(done.stderr.decode(errors="replace")) or f"{program} failed.")
    return done.stdout.decode()


def _program(name: str) -> str:
    """The embedded PostgreSQL's program, which fits every server up to its version; else the system's."""
    try:
        carried = programs_folder() / name
    except EmbeddedServerError:
        carried = Path("/nonexistent")
    found = str(carried) if carried.exists() else shutil.which(name)
    if found is None:
        raise BackupError(f"{name} is missing. Install PostgreSQL's client programs.")
    return found


def _without_password(url: str) -> tuple[str, str | None]:
    """The address without its password, for a command line, which every user of the machine can read."""
    parts = urlsplit(url)
    if parts.password is None:
        return url, None
    place = f"{parts.username}@{parts.netloc.rpartition('@')[2]}"
    return urlunsplit(parts._replace(netloc=place)), unquote(parts.password)


def _first_error(text: str) -> str | None:
    """The first error line alone: the lines after it may quote rows."""
    return next((line for line in text.splitlines() if "error:" in line), None)
