"""Certificates in SSL_CERT_DIR are trusted beside the system's: one bundle, named in both variables."""

from pathlib import Path

import pytest

from imagewright.cli.trust import trust_in_sdks, trust_mounted_certificates
from imagewright.errors import UsageError

ONE = "-----BEGIN CERTIFICATE-----\nMQ==\n-----END CERTIFICATE-----\n"
TWO = ONE.replace("MQ", "Mg")
SYSTEM = ONE.replace("MQ", "Mw")


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "certs").mkdir()
    (tmp_path / "system.crt").write_text(SYSTEM)
    return {"SSL_CERT_DIR": str(tmp_path / "certs"), "SSL_CERT_FILE": str(tmp_path / "system.crt")}


def test_bundle_has_system_and_mounted_certificates(tmp_path: Path, environment: dict[str, str]) -> None:
    (tmp_path / "certs/b.pem").write_text(TWO)
    (tmp_path / "certs/a.crt").write_text(ONE)
    (tmp_path / "certs/README").write_text("no certificate")
    (tmp_path / "certs/..data").mkdir()  # the kubelet's
    trust_mounted_certificates(environment, str(tmp_path / "work"))
    assert environment["SSL_CERT_FILE"] == environment["GIT_SSL_CAINFO"]
    bundle = Path(environment["SSL_CERT_FILE"]).read_text()
    assert [bundle.index(text) for text in (SYSTEM, ONE, TWO)] == sorted(bundle.index(t) for t in (SYSTEM, ONE, TWO))
    assert "no certificate" not in bundle


def test_nothing_mounted_changes_nothing(tmp_path: Path, environment: dict[str, str]) -> None:
    before = dict(environment)
    trust_mounted_certificates(environment, str(tmp_path / "work"))
    environment["SSL_CERT_DIR"] = before["SSL_CERT_DIR"] = str(tmp_path / "missing")
    trust_mounted_certificates(environment, str(tmp_path / "work"))
    assert environment == before
    assert not (tmp_path / "work").exists()


def test_unwritable_directory_is_named(tmp_path: Path, environment: dict[str, str]) -> None:
    (tmp_path / "certs/a.crt").write_text(ONE)
    (tmp_path / "file").touch()
    with pytest.raises(
        UsageError, match=r"cannot write the bundle of mounted certificates to .*/file/work: Not a directory"
    ):
        trust_mounted_certificates(environment, str(tmp_path / "file/work"))


def test_sdks_trust_the_bundle_unless_configured_otherwise() -> None:
    environment = {"SSL_CERT_FILE": "/a.crt", "AWS_CA_BUNDLE": "/amazon.crt", "REQUESTS_CA_BUNDLE": ""}
    trust_in_sdks(environment)
    assert environment["AWS_CA_BUNDLE"] == "/amazon.crt"
    assert environment["REQUESTS_CA_BUNDLE"] == "/a.crt"
    nothing: dict[str, str] = {}
    trust_in_sdks(nothing)
    assert not nothing
