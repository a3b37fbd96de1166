from __future__ import annotations

from pathlib import Path

from imagewright.cli.trust import trust_mounted_certificates

PEM = "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n"


def test_mounted_certificates_join_the_systems(tmp_path: Path) -> None:
    system, mounted = tmp_path / "system.crt", tmp_path / "certs"
    system.write_text(PEM.format("system"))
    (mounted / "..data").mkdir(parents=True)  # as the kubelet mounts them
    (mounted / "one.crt").write_text(PEM.format("one"))
    (mounted / "notes.txt").write_text("no certificate")
    environment = {"SSL_CERT_FILE": str(system), "SSL_CERT_DIR": str(mounted)}
    trust_mounted_certificates(environment, str(tmp_path / "work"))
    assert environment["GIT_SSL_CAINFO"] == environment["SSL_CERT_FILE"]
    bundle = Path(environment["SSL_CERT_FILE"]).read_text()
    assert "system" in bundle
    assert "one" in bundle
    assert "no certificate" not in bundle


def test_without_mounted_certificates_nothing_changes(tmp_path: Path) -> None:
    environment = {"SSL_CERT_FILE": "/x", "SSL_CERT_DIR": str(tmp_path / "absent")}
    trust_mounted_certificates(environment, str(tmp_path))
    assert environment == {"SSL_CERT_FILE": "/x", "SSL_CERT_DIR": str(tmp_path / "absent")}
