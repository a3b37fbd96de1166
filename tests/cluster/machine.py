"""How this machine reaches package registries: read at run time, put into base images, so that RUN reaches them too.

Reads files and asks apt, pip and go for their settings. Nothing of it is ever committed.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
ADDED_CERTIFICATES = Path("/usr/local/share/ca-certificates")
APT_SETTINGS = re.compile(r"^Acquire::((https?|ftp)::.*|Check-Valid-Until|Check-Date|Retries|ForceIPv4) ")
PIP_SETTINGS = ("index-url", "extra-index-url", "trusted-host", "proxy")


@dataclass(frozen=True, slots=True)
class Machine:
    """The settings, each empty where the machine has none of its own."""

    debian_mirror: str
    apt: str  # lines of an apt.conf
    pip: str  # a pip.conf
    go: tuple[tuple[str, str], ...]  # of ``go env``
    certificates: bytes  # all authorities, PEM
    added_certificates: tuple[tuple[str, bytes], ...]  # those that someone added: name, PEM

    @property
    def fingerprint(self) -> str:
        return json.dumps([self.debian_mirror, self.apt, self.pip, self.go, len(self.certificates)])


def this_machine(go: Path | None) -> Machine:
    added = sorted(ADDED_CERTIFICATES.glob("*.crt")) if ADDED_CERTIFICATES.is_dir() else []
    return Machine(
        debian_mirror=debian_mirror(),
        apt="".join(apt_settings()),
        pip=pip_settings(),
        go=tuple(go_settings(go)) if go else (),
        certificates=CERTIFICATES.read_bytes() if CERTIFICATES.exists() else b"",
        added_certificates=tuple((path.name, path.read_bytes()) for path in added),
    )


def debian_mirror() -> str:
    """Where apt gets this Debian from; empty on another distribution, where mmdebstrap's own default serves."""
    release = dict(
        line.split("=", 1) for line in Path("/etc/os-release").read_text().replace('"', "").splitlines() if "=" in line
    )
    if release.get("ID") != "debian":
        return ""
    codename = release.get("VERSION_CODENAME", "")
    for uri, suites in apt_sources(Path("/etc/apt")):
        if codename in suites:
            return uri
    return ""


def apt_sources(settings: Path) -> Iterator[tuple[str, list[str]]]:
    """(URI, suites) of every binary source below apt's folder of ``settings``, in both of apt's formats."""
    folder = settings / "sources.list.d"
    for path in [settings / "sources.list", *sorted(folder.glob("*.list"))]:
        for line in path.read_text().splitlines() if path.exists() else []:
            words = re.sub(r"\[[^]]*\]", "", line).split()
            if len(words) > 2 and words[0] == "deb":
                yield words[1], [words[2]]
    for path in sorted(folder.glob("*.sources")):
        for stanza in path.read_text().split("\n\n"):
            fields = dict(re.findall(r"^([A-Za-z-]+):[ \t]*(.*)$", stanza, re.MULTILINE))
            uris = fields.get("URIs", "").split()
            if "deb" in fields.get("Types", "").split() and uris and fields.get("Enabled", "yes") != "no":
                yield uris[0], fields.get("Suites", "").split()


def apt_settings() -> Iterator[str]:
    done = subprocess.run(["apt-config", "dump", "--no-empty"], check=False, capture_output=True, text=True)
    yield from (line + "\n" for line in done.stdout.splitlines() if APT_SETTINGS.match(line))


def pip_settings() -> str:
    command = [sys.executable, "-m", "pip", "config", "list"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    found: dict[str, str] = {}
    for line in done.stdout.splitlines():
        name, _, value = line.partition("=")
        setting = name.rpartition(".")[2]
        if setting in PIP_SETTINGS:
            found[setting] = value.strip("'")
    lines = [f"{name} = {value}\n" for name, value in sorted(found.items())]
    return "".join(["[global]\n", f"cert = {CERTIFICATES}\n", *lines])


def go_settings(go: Path) -> Iterator[tuple[str, str]]:
    names = ("GOPROXY", "GOSUMDB", "GONOSUMDB", "GONOPROXY", "GOPRIVATE")
    done = subprocess.run(
        [str(go), "env", "-json", *names], check=False, capture_output=True, text=True, cwd="/", env=dict(os.environ)
    )
    if done.returncode == 0:
        yield from ((name, value) for name, value in json.loads(done.stdout).items() if value)
