"""Certificates made for a test with the openssl command; nothing of them outlives it."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

NAMES = "DNS:localhost,IP:127.0.0.1"
OTHER_NAME = "DNS:other.example"


@dataclass(frozen=True)
class Pair:
    """PEM files of a certificate and its key."""

    cert: Path
    key: Path

    def server_flags(self, client_ca: Path | None = None) -> list[str]:
        flags = ["--tls-cert", str(self.cert), "--tls-key", str(self.key)]
        return flags + (["--tls-client-ca", str(client_ca)] if client_ca else [])

    def replace_by(self, other: Pair) -> None:
        """As an operator does who renews them: the key first, then the certificate."""
        for mine, theirs in ((self.key, other.key), (self.cert, other.cert)):
            replace(mine, theirs.read_bytes())


def replace(path: Path, content: bytes) -> None:
    temporary = path.with_suffix(".new")
    temporary.write_bytes(content)
    temporary.rename(path)


def _openssl(*arguments: str) -> None:
    result = subprocess.run(["openssl", *arguments], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


_NEW_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]


class Authority:
    """A certificate authority of its own."""

    def __init__(self, folder: Path, name: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self.name = name
        self.cert = folder / f"{name}.crt"
        self._key = folder / f"{name}.key"
        _openssl("req", "-x509", *_NEW_KEY, "-days", "30", "-subj", f"/CN={name}",
                 "-keyout", str(self._key), "-out", str(self.cert))

    def issue(self, name: str, alternative_names: str = NAMES, expired: bool = False) -> Pair:
        pair = Pair(self._folder / f"{self.name}-{name}.crt", self._folder / f"{self.name}-{name}.key")
        request = pair.cert.with_suffix(".csr")
        extensions = pair.cert.with_suffix(".ext")
        extensions.write_text(f"subjectAltName={alternative_names}\n", encoding="utf-8")
        _openssl("req", *_NEW_KEY, "-subj", f"/CN={name}", "-keyout", str(pair.key),
                 "-out", str(request))
        # A certificate of -1 days ended yesterday.
        _openssl("x509", "-req", "-in", str(request), "-CA", str(self.cert), "-CAkey",
                 str(self._key), "-CAcreateserial", "-days", "-1" if expired else "20",
                 "-extfile", str(extensions), "-out", str(pair.cert))
        return pair


def self_signed(folder: Path, name: str) -> Pair:
    pair = Pair(folder / f"{name}.crt", folder / f"{name}.key")
    _openssl("req", "-x509", *_NEW_KEY, "-days", "20", "-subj", f"/CN={name}", "-addext",
             f"subjectAltName={NAMES}", "-keyout", str(pair.key), "-out", str(pair.cert))
    return pair
