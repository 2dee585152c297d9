"""TLS for the emulated gateway: a certificate of its own making, or one that is given."""

from __future__ import annotations

import ssl
from pathlib import Path

from recorder.errors import ReplayError


def self_signed(host: str, *, folder: Path) -> tuple[ssl.SSLContext, Path]:
    """Make a certificate for this host and for localhost; give it with the file that a client trusts it by.

    `ReplayError` if the package that makes certificates is not installed.
    """
    try:
        import trustme  # noqa: PLC0415  an extra
    except ImportError:
        raise ReplayError(
            "a certificate cannot be made: trustme is not installed",
            hint="pip install 'ibkr-recorder[tls]', or give one with --cert and --key",
        ) from None
    authority = trustme.CA()
    names = dict.fromkeys([host, "localhost", "127.0.0.1", "::1"])
    certificate = authority.issue_cert(*names)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    path = folder / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return context, path


def given(cert: Path, key: Path | None) -> ssl.SSLContext:
    """Take a certificate from PEM files; `ReplayError` if they cannot be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(cert, key)
    except (OSError, ssl.SSLError) as exc:
        raise ReplayError(
            f"the certificate {cert} cannot be used: {exc}", hint="--cert and --key name PEM files that belong together"
        ) from exc
    return context
