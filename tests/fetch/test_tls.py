"""Certificates are verified, and https never becomes http."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fetch.conftest import fetch_all, lookup_table, quick
from tests.servers.hostile import HostileServer

LOOKUP = lookup_table({"good.test": ["127.0.0.1"], "other.test": ["127.0.0.1"], "plain.test": ["127.0.0.1"]})
SETTINGS = quick(connect_timeout_s=2, read_timeout_s=2, total_timeout_s=5)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Self-signed for good.test, key and certificate in one file."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs the openssl command to make a certificate")
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(
        [
            openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=good.test",
            "-addext", "subjectAltName=DNS:good.test", "-keyout", folder / "key.pem", "-out", folder / "cert.pem",
        ],
        check=True,
        capture_output=True,
    )  # fmt: skip
    return folder


@pytest.fixture
def secure(certificate: Path, serve: Callable[..., HostileServer]) -> HostileServer:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    return serve(tls=context)


def test_a_trusted_certificate_for_the_right_name_is_accepted(secure: HostileServer, certificate: Path) -> None:
    trusting = ssl.create_default_context(cafile=certificate / "cert.pem")
    urls = [secure.url("/picture", host) for host in ("good.test", "other.test")]
    right, wrong_name = fetch_all(SETTINGS, urls, LOOKUP, trusting)
    assert right.ok
    assert right.connect_s > 0
    assert wrong_name.reason == "tls_error"


def test_an_unknown_authority_is_refused_without_a_second_try_or_a_way_around(secure: HostileServer) -> None:
    for obey_robots in (False, True):
        settings = quick(connect_timeout_s=2, total_timeout_s=5, obey_robots=obey_robots)
        (result,) = fetch_all(settings, [secure.url("/picture", "good.test")], LOOKUP)
        assert result.reason == "tls_error"
        assert not result.retryable
        assert result.attempts == (0 if obey_robots else 1)
    assert secure.seen == []
    assert secure.n_connections == 0, "the handshake failed before any HTTP"


def test_a_server_that_speaks_no_tls_is_a_tls_error(server: HostileServer) -> None:
    (result,) = fetch_all(SETTINGS, [server.url("/picture").replace("http:", "https:")])
    assert result.reason == "tls_error"


def test_redirects_from_https_to_http_are_refused(
    secure: HostileServer, server: HostileServer, certificate: Path
) -> None:
    trusting = ssl.create_default_context(cafile=certificate / "cert.pem")
    downgrade = secure.url(f"/redirect?to={server.url('/picture', 'plain.test')}", "good.test")
    upgrade = server.url(f"/redirect?to={secure.url('/picture', 'good.test')}", "plain.test")
    down, up = fetch_all(SETTINGS, [downgrade, upgrade], LOOKUP, trusting)
    assert down.reason == "tls_downgrade"
    assert up.ok
    assert server.paths() == ["/redirect"]
