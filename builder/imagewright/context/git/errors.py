"""What git says when it fails, as errors that a person can act on.

Pure; no I/O. Called by ``context.git.program``. git's words hold those of the server, which may be hostile.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from imagewright.context.git.address import Login, without_login
from imagewright.context.hiding import hidden
from imagewright.errors import Reason, SourceError


class GitError(SourceError):
    """``stderr`` is what git said, for those who try another way."""

    stderr = ""


def explain(url: str, command: str, stderr: str, login: Login) -> GitError:
    """The error for what git wrote to ``stderr``. ``command`` is git's subcommand, ``login`` what must not be shown."""
    lines = [_printable(line, login) for line in stderr.splitlines() if line.strip()]
    said = next((line for line in reversed(lines) if line.startswith(("fatal:", "error:"))), lines[-1] if lines else "")
    evidence = "\n".join(lines).replace(url, "")
    for known in _KNOWN:
        if re.search(known.pattern, evidence):
            why = known.why
            if why == _REFUSED and not login:
                why = "it asks for a login, and none was given"
            error = GitError(f"{url} can't be fetched: {why} ({said})", reason=known.reason, hint=known.hint)
            break
    else:
        error = GitError(f"git {command} of {url} failed: {said or 'it said nothing'}")
    error.stderr = evidence
    return error


def _printable(line: str, login: Login) -> str:
    """A line that the server may have written: without control characters and without our own secrets."""
    line = without_login(re.sub(r"[\x00-\x1f\x7f-\x9f]+", " ", line).strip())
    return hidden(line, (login.password, login.bearer, login.username))[:300]


@dataclass(frozen=True, slots=True)
class _Known:
    pattern: str
    reason: Reason
    why: str
    hint: str


_REFUSED = "it refuses the login"
_KNOWN = (
    _Known(
        r"Authentication failed|could not read (Username|Password)|unable to read askpass|returned error: 40[13]\b"
        r"|HTTP Basic: Access denied|Invalid username",
        Reason.GIT_AUTH_FAILED,
        _REFUSED,
        "Give user name and password or a token: secretRef in the ImageBuild, GIT_USERNAME and GIT_PASSWORD or GIT_TOKEN"
        " elsewhere. Some servers also answer so when there is no such repository.",
    ),
    _Known(
        r"Permission denied \(|Load key|error in libcrypto",
        Reason.GIT_AUTH_FAILED,
        "it refuses the ssh key",
        "Put a private key without passphrase into the Secret's identity, and its public half onto the server.",
    ),
    _Known(
        r"Host key verification failed",
        Reason.GIT_AUTH_FAILED,
        "its host key isn't known",
        "Put the line that ssh-keyscan prints for the host into the Secret's known_hosts.",
    ),
    _Known(
        r"couldn't find remote ref|unadvertised object|not our ref|want [0-9a-f]+ not valid|[Rr]emote branch .* not found",
        Reason.GIT_REVISION_NOT_FOUND,
        "it has no such revision",
        "Check branch, tag and commit, and that they were pushed.",
    ),
    _Known(
        r"[Rr]epository .*not found|returned error: 4(04|10)\b|does not appear to be a git repository|not valid: is this a git",
        Reason.GIT_REPOSITORY_NOT_FOUND,
        "there is no such repository",
        "Check the address. A private repository may hide itself from those without a login.",
    ),
    _Known(
        r"Could not resolve (host|proxy|hostname)|Name or service not known",
        Reason.SOURCE_UNREACHABLE,
        "its host name can't be resolved",
        "Check the address and the cluster's DNS.",
    ),
    _Known(
        r"Failed to connect|Connection (refused|timed out|reset)|No route to host|Network is unreachable|Operation too slow"
        r"|Operation timed out|Could ?n.t connect|Connection closed by",
        Reason.SOURCE_UNREACHABLE,
        "it can't be reached",
        "Check the address, the network policy and the proxy.",
    ),
    _Known(
        r"returned error: 3\d\d|unable to update url base from redirection",
        Reason.SOURCE_FETCH_FAILED,
        "it redirects elsewhere",
        "Write the address that it redirects to: a token is not taken along.",
    ),
    _Known(
        r"returned error: (429|5\d\d)",
        Reason.SOURCE_UNREACHABLE,
        "the server has trouble",
        "Try again later.",
    ),
    _Known(
        r"No space left|Disk quota exceeded",
        Reason.DISK_FULL,
        "no space is left for the checkout",
        "Give the build a larger work folder.",
    ),
    _Known(
        r"RPC failed|early EOF|unexpected disconnect|the remote end hung up|transfer closed|recv error|non-properly terminated",
        Reason.SOURCE_UNREACHABLE,
        "the connection broke",
        "Try again; a proxy or a time limit may cut long answers.",
    ),
    _Known(
        r"handshake|wrong version number|unexpected TLS packet",
        Reason.SOURCE_FETCH_FAILED,
        "no encrypted connection can be made",
        "Is it a server without TLS? Then write http://.",
    ),
    _Known(
        r"certificate|SSL|TLS",
        Reason.SOURCE_CERTIFICATE_UNTRUSTED,
        "its certificate can't be verified",
        "Give the CA that signed it as ca.crt in the git Secret (ImageBuild), or by SSL_CERT_FILE elsewhere.",
    ),
    _Known(
        r"transport '.*' not allowed",
        Reason.PATH_NOT_ALLOWED,
        "it uses a protocol that isn't allowed",
        "Repositories come over https, http or ssh.",
    ),
)
