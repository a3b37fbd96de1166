"""The cluster's certificate authority, its certificates and its tokens. Writes below the state folder, once.

Ten years of validity: a cluster lives for a test run, and its clock may be off.
"""

from __future__ import annotations

import datetime
import ipaddress
import secrets
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

VALIDITY = datetime.timedelta(days=3650)


@dataclass(frozen=True, slots=True)
class Identity:
    """What a certificate is for: ``name`` is its file, ``common_name`` and ``organization`` who it says it is."""

    name: str
    common_name: str
    organization: str = ""
    hosts: tuple[str, ...] = ()  # names and addresses it serves


class Authority:
    """A certificate authority in ``folder``: ca.crt, ca.key, and NAME.crt, NAME.key for what it signs."""

    def __init__(self, folder: Path, name: str = "imagewright test cluster") -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._subject = subject_of(Identity("ca", name))
        self._key = load_or_make_key(folder / "ca.key")
        if not self.certificate.exists():
            usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
            builder = (
                certificate_builder(self._subject, self._subject, self._key.public_key())
                .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
                .add_extension(usage, critical=True)
                .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
            )
            write(self.certificate, builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))

    @property
    def certificate(self) -> Path:
        return self._folder / "ca.crt"

    def issue(self, identity: Identity) -> None:
        """Write NAME.crt and NAME.key for server and client use, unless they are there."""
        path = self._folder / f"{identity.name}.crt"
        if path.exists():
            return
        key = load_or_make_key(path.with_suffix(".key"))
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        authority_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        builder = (
            certificate_builder(subject_of(identity), self._subject, key.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(authority_key, critical=False)
        )
        if identity.hosts:
            names = x509.SubjectAlternativeName([general_name(host) for host in identity.hosts])
            builder = builder.add_extension(names, critical=False)
        write(path, builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))


def certificate_builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + VALIDITY)
    )


def subject_of(identity: Identity) -> x509.Name:
    parts = [x509.NameAttribute(NameOID.COMMON_NAME, identity.common_name)]
    if identity.organization:
        parts.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, identity.organization))
    return x509.Name(parts)


def general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def load_or_make_key(path: Path) -> ec.EllipticCurvePrivateKey:
    if path.exists():
        key = serialization.load_pem_private_key(path.read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        return key
    key = ec.generate_private_key(ec.SECP256R1())
    write(path, private_pem(key), 0o600)
    return key


def make_signing_key(folder: Path) -> None:
    """sa.key and sa.pub, which sign and check the tokens of ServiceAccounts."""
    path = folder / "sa.key"
    if path.exists():
        return
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    write(folder / "sa.pub", public)
    write(path, private_pem(key), 0o600)


def make_tokens(path: Path, users: dict[str, str]) -> dict[str, str]:
    """The static tokens of the cluster's users (name: group), written once in kube-apiserver's format.

    Returns:
        name: token
    """
    if not path.exists():
        lines = [f'{secrets.token_hex(16)},{user},{user},"{group}"\n' for user, group in users.items()]
        write(path, "".join(lines).encode(), 0o600)
    return {line.split(",")[1]: line.split(",")[0] for line in path.read_text().splitlines()}


def private_pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )


def write(path: Path, content: bytes, mode: int = 0o644) -> None:
    """All of it or nothing: a file that exists is taken as complete by a later run."""
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(content)
    partial.chmod(mode)
    partial.rename(path)
