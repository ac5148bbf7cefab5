"""The unprivileged user that PostgreSQL runs as when triplane runs as root: PostgreSQL refuses root.

The user is `triplane`, made as a system user on first use; where that can't be done, `nobody`. A data folder
that exists keeps the user it belongs to.
"""

import os
import pwd
import shutil
import stat
import subprocess
from pathlib import Path

from triplane.adapters.embedded.server_folder import EmbeddedServerError

_NAME = "triplane"
_FALLBACK = "nobody"


def server_user(data_folder: Path) -> pwd.struct_passwd | None:
    """The user to start the server as; None, as this one, unless we are root."""
    if os.geteuid() != 0:
        return None
    if data_folder.exists() and (owner := data_folder.stat().st_uid) != 0:
        return pwd.getpwuid(owner)
    return _find(_NAME) or _create() or _nobody()


def let_pass(path: Path) -> list[Path]:
    """Let everyone pass through the folders above `path`, without seeing what they hold.

    Returns the folders whose mode this changed. It matters for folders such as /root, which are closed to
    the user that the server runs as.
    """
    opened = []
    for folder in path.resolve().parents:
        mode = folder.stat().st_mode
        if not mode & stat.S_IXOTH:
            folder.chmod(mode | stat.S_IXOTH | stat.S_IXGRP)
            opened.append(folder)
    return opened


def let_read(folder: Path) -> None:
    """Let everyone read the server's own program files, which a strict umask may have closed."""
    if folder.stat().st_mode & stat.S_IROTH and folder.stat().st_mode & stat.S_IXOTH:
        return
    for parent, _, names in os.walk(folder):
        Path(parent).chmod(0o755)
        for file in (Path(parent, name) for name in names):
            file.chmod(0o755 if file.stat().st_mode & stat.S_IXUSR else 0o644)


def _find(name: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None


def _create() -> pwd.struct_passwd | None:
    useradd = shutil.which("useradd") or shutil.which("useradd", path="/usr/sbin:/sbin")
    if useradd is None:
        return None
    command = [useradd, "--system", "--no-create-home", "--user-group", "--shell", "/bin/false", _NAME]
    done = subprocess.run(command, capture_output=True, check=False, timeout=30)  # noqa: S603
    return _find(_NAME) if done.returncode == 0 else None


def _nobody() -> pwd.struct_passwd:
    entry = _find(_FALLBACK)
    if entry is None:
        raise EmbeddedServerError(
            "PostgreSQL doesn't run as root, and there is no other user for it. "
            f"Create a user named {_NAME}, or run triplane as an ordinary user."
        )
    return entry
