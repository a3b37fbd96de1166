"""git's error messages as errors that a user can act on.

No I/O. git's messages include the server's, which may be hostile.
"""

from __future__ import annotations

import re

from imagewright.context.git.address import Login
from imagewright.context.hiding import hidden
from imagewright.errors import Reason, SourceError
from imagewright.logins import without_logins
from imagewright.records import dataclass


class GitError(SourceError):
    """``stderr`` is git's message, for callers that try another way."""

    stderr = ""


def explain(url: str, command: str, stderr: str, login: Login) -> GitError:
    """The error for git's ``stderr``. ``command`` is git's subcommand; ``login`` must not be shown."""
    lines = [_printable(line, login) for line in stderr.splitlines() if line.strip()]
    said = next((line for line in reversed(lines) if line.startswith(("fatal:", "error:"))), lines[-1] if lines else "")
    evidence = "\n".join(lines).replace(url, "")
    for known in _KNOWN:
        if re.search(known.pattern, evidence):
            why = known.why
            if why == _REFUSED and not login:
                why = "the server requires a login"
            error = GitError(f"cannot fetch {url}: {why} ({said})", reason=known.reason, hint=known.hint)
            break
    else:
        error = GitError(f"git {command} of {url} failed: {said or 'no error message'}")
    error.stderr = evidence
    return error


def _printable(line: str, login: Login) -> str:
    """A line that may be the server's, without control characters and without our own secrets."""
    line = without_logins(re.sub(r"[\x00-\x1f\x7f-\x9f]+", " ", line).strip())
    return hidden(line, (login.password, login.bearer, login.username))[:300]


@dataclass(frozen=True, slots=True)
class _Known:
    pattern: str
    reason: Reason
    why: str
    hint: str


_REFUSED = "the server refused the login"
_KNOWN = (
    _Known(
        r"Authentication failed|could not read (Username|Password)|unable to read askpass|returned error: 40[13]\b"
        r"|HTTP Basic: Access denied|Invalid username",
        Reason.GIT_AUTH_FAILED,
        _REFUSED,
        "Set secretRef in the ImageBuild, or GIT_USERNAME and GIT_PASSWORD or GIT_TOKEN elsewhere; check the address too, since"
        " some servers refuse the login if the repository doesn't exist.",
    ),
    _Known(
        r"No user exists for uid|you don't exist, go away",
        Reason.SOURCE_FETCH_FAILED,
        "ssh does not run as a user whom /etc/passwd lacks",
        "Run the build as the user 1000 of the executor's image (podTemplate.securityContext.runAsUser), or use an https "
        "address.",
    ),
    _Known(
        r"Permission denied \(|Load key|error in libcrypto",
        Reason.GIT_AUTH_FAILED,
        "the server refused the ssh key",
        "Put a private key without a passphrase into the Secret's identity, and its public key on the server.",
    ),
    _Known(
        r"Host key verification failed",
        Reason.GIT_AUTH_FAILED,
        "the host key is unknown",
        "Put the output of ssh-keyscan for the host into the Secret's known_hosts.",
    ),
    _Known(
        r"couldn't find remote ref|unadvertised object|not our ref|want [0-9a-f]+ not valid|[Rr]emote branch .* not found",
        Reason.GIT_REVISION_NOT_FOUND,
        "no such revision",
        "Check the branch, tag or commit, and that it was pushed.",
    ),
    _Known(
        r"[Rr]epository .*not found|returned error: 4(04|10)\b|does not appear to be a git repository|not valid: is this a git",
        Reason.GIT_REPOSITORY_NOT_FOUND,
        "no such repository",
        "Check the address, and whether a private repository needs a login.",
    ),
    _Known(
        r"Could not resolve (host|proxy|hostname)|Name or service not known",
        Reason.SOURCE_UNREACHABLE,
        "the host name can't be resolved",
        "Check the address and the cluster's DNS.",
    ),
    _Known(
        r"Failed to connect|Connection (refused|timed out|reset)|No route to host|Network is unreachable|Operation too slow"
        r"|Operation timed out|Could ?n.t connect|Connection closed by",
        Reason.SOURCE_UNREACHABLE,
        "the server can't be reached",
        "Check the address, the network policy and the proxy.",
    ),
    _Known(
        r"returned error: 3\d\d|unable to update url base from redirection",
        Reason.SOURCE_FETCH_FAILED,
        "the server redirects elsewhere",
        "Use the address that it redirects to: a token is not sent there.",
    ),
    _Known(
        r"returned error: (429|5\d\d)",
        Reason.SOURCE_UNREACHABLE,
        "the server is overloaded or failing",
        "Try again later.",
    ),
    _Known(
        r"No space left|Disk quota exceeded",
        Reason.DISK_FULL,
        "no space left for the checkout",
        "Give the build a larger work directory.",
    ),
    _Known(
        r"RPC failed|early EOF|unexpected disconnect|the remote end hung up|transfer closed|recv error|non-properly terminated"
        r"|Empty reply from server|(Send|Recv) failure|(sending|receiving) data (to|from) the peer|not closed cleanly"
        r"|SSL_ERROR_SYSCALL|unexpected eof while reading",
        Reason.SOURCE_UNREACHABLE,
        "the connection broke",
        "Try again, and check whether a proxy or a time limit cuts off long answers.",
    ),
    _Known(
        r"handshake|wrong version number|unexpected TLS packet",
        Reason.SOURCE_FETCH_FAILED,
        "the TLS handshake failed",
        "Use http:// if the server has no TLS.",
    ),
    _Known(
        r"certificate|SSL|TLS",
        Reason.SOURCE_CERTIFICATE_UNTRUSTED,
        "the server's certificate can't be verified",
        "Put the CA that signed it into the Secret's ca.crt (ImageBuild), or into SSL_CERT_FILE elsewhere.",
    ),
    _Known(
        r"transport '.*' not allowed",
        Reason.PATH_NOT_ALLOWED,
        "the protocol is not allowed",
        "Use https, http or ssh.",
    ),
)
