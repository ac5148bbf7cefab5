"""The secret that signs session cookies: made once, kept in the data folder, unless the settings give one."""

import secrets

from triplane.adapters.embedded.run_folder import write_private
from triplane.settings import Settings


def signing_secret(settings: Settings) -> str:
    """TRIPLANE_SECRET, else the content of DATA_DIR/secret, which is made if there is none."""
    if settings.secret:
        return settings.secret
    file = settings.data_dir / "secret"
    if not file.exists():
        settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_private(file, secrets.token_urlsafe(48).encode())
    return file.read_text().strip()
