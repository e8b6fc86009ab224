"""Certificates that nobody has signed, for servers of the tests."""

from __future__ import annotations

import ssl
import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path


def make_certificate(folder: Path) -> Path:
    """A PEM file with a certificate for 127.0.0.1 and service.invalid, and its key."""
    cert, key = folder / "cert.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    names = ["-days", "2", "-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1,DNS:service.invalid"]
    try:
        subprocess.run([*command, *names, "-out", str(cert), "-keyout", str(key)], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("needs the openssl program")
    cert.write_bytes(cert.read_bytes() + key.read_bytes())
    return cert


def tls_of(certificate: Path) -> ssl.SSLContext:
    """How a server shows the certificate."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    return context
