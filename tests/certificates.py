"""Certificates for tests, made by the machine's openssl."""

import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Issued:
    """PEM."""

    key: bytes
    certificate: bytes


class Authority:
    """A certificate authority of its own, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self._run(
            "req", "-x509", *_NEW_KEY, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=test authority"
        )
        self.certificate = (folder / "ca.pem").read_bytes()

    def issue(self, name: str) -> Issued:
        """A key and a certificate for this host name."""
        key, request, certificate, names = (f"{name}.{kind}" for kind in ("key", "csr", "pem", "names"))
        (self._folder / names).write_text(f"subjectAltName=DNS:{name}\n")
        self._run("req", *_NEW_KEY, "-keyout", key, "-out", request, "-subj", f"/CN={name}")
        self._run(
            *("x509", "-req", "-in", request, "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"),
            *("-out", certificate, "-days", "1", "-extfile", names),
        )
        return Issued((self._folder / key).read_bytes(), (self._folder / certificate).read_bytes())

    def _run(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=self._folder, check=True, capture_output=True)


_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
