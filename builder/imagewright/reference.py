"""Image references as people write them: ``[host[:port]/]path[:tag][@digest]``.

Grammar: distribution's reference package, with Docker Hub's defaults (no host means docker.io, a one-part name there
means library/name). No I/O.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Self

from imagewright.digest import Digest
from imagewright.errors import ImagewrightError, Reason, quoted
from imagewright.records import dataclass

DOCKER_HUB = "docker.io"
# One registry under three names: credentials and settings for any of them serve all (docker's own aliases).
DOCKER_HUB_ALIASES = frozenset({DOCKER_HUB, "index.docker.io", "registry-1.docker.io"})

_PATH_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"{_PATH_COMPONENT}(?:/{_PATH_COMPONENT})*")
_HOST = re.compile(
    r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*|\[[0-9a-fA-F:]+\])(?::[0-9]+)?"
)
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_MAX_NAME = 255


@dataclass(frozen=True, slots=True)
class Reference:
    """A parsed reference. ``registry`` is canonical (``docker.io`` for Docker Hub), ``repository`` has no host."""

    registry: str
    repository: str
    tag: str = ""
    digest: Digest | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse a reference; no tag and no digest means tag ``latest``.

        Raises:
            ImagewrightError: reason ``ReferenceInvalid``, with what is wrong and what to write instead.
        """
        rest, _, digest_text = text.partition("@")
        digest = Digest.parse(digest_text) if "@" in text else None
        host, name = _split_host(rest)
        tag = ""
        head, colon, tail = name.rpartition(":")
        if colon:
            name, tag = head, tail
            if not _TAG.fullmatch(tag):
                raise _invalid(text, 'the tag must be 1 to 128 letters, digits, "_", "." or "-"')
        if host in DOCKER_HUB_ALIASES:
            host = DOCKER_HUB
            if name and "/" not in name:
                name = f"library/{name}"
        if not _HOST.fullmatch(host):
            raise _invalid(text, "the registry must be a host name with an optional port")
        if not _PATH.fullmatch(name):
            raise _invalid(text, _explain_path(name.removeprefix("library/")))
        if len(name) > _MAX_NAME:
            raise _invalid(text, f"the name is longer than {_MAX_NAME} characters")
        if not tag and digest is None:
            tag = "latest"
        return cls(host, name, tag, digest)

    @property
    def name(self) -> str:
        """Registry and repository, without tag and digest."""
        return f"{self.registry}/{self.repository}"

    @property
    def manifest_key(self) -> str:
        """What to ask a registry for: the digest where there is one, else the tag."""
        return str(self.digest) if self.digest is not None else self.tag

    def with_digest(self, digest: Digest) -> Reference:
        """The same image pinned to ``digest``."""
        return replace(self, digest=digest)

    def familiar(self) -> str:
        """As people write it: without docker.io and library/."""
        name = self.name
        if self.registry == DOCKER_HUB:
            name = self.repository.removeprefix("library/") if self.repository.count("/") == 1 else self.repository
        return name + self._suffix()

    def __str__(self) -> str:
        return self.name + self._suffix()

    def _suffix(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return tag + (f"@{self.digest}" if self.digest is not None else "")


def _split_host(text: str) -> tuple[str, str]:
    """A first part with a dot or colon, in upper case, or ``localhost`` is a host; anything else is on Docker Hub."""
    first, slash, rest = text.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost" or first != first.lower()):
        return first, rest
    return DOCKER_HUB, text


def _explain_path(name: str) -> str:
    if not name:
        return "the name is empty"
    if any(c.isspace() for c in name):
        return "it contains a space"
    if name != name.lower():
        return f"the name must be lower case, as in {quoted(name.lower())}"
    return 'the name must be lower-case letters and digits, joined by ".", "_", "-" or "/"'


def _invalid(text: str, why: str) -> ImagewrightError:
    error = ImagewrightError(
        f"invalid image reference {quoted(text)}: {why}",
        reason=Reason.REFERENCE_INVALID,
        hint="Write it as registry.example.com/team/app:1.0, or name:tag for Docker Hub.",
    )
    error.why = why
    return error
