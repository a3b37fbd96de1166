"""What a broken connection means: one classification for every server, whatever library reports it.

No I/O.
"""

from __future__ import annotations

from enum import Enum
from http.client import IncompleteRead

import requests
from urllib3.exceptions import HTTPError, NewConnectionError

from imagewright.records import dataclass
from imagewright.urls import parse_url

# What an exchange can break with.
BROKEN = (requests.RequestException, HTTPError, OSError)

# Alerts of a server that requires a client certificate (RFC 8446, section 6.2), as OpenSSL names them.
_CLIENT_CERTIFICATE = (
    "ALERT_CERTIFICATE_REQUIRED",
    "ALERT_BAD_CERTIFICATE",
    "ALERT_UNSUPPORTED_CERTIFICATE",
    "ALERT_CERTIFICATE_EXPIRED",
    "ALERT_CERTIFICATE_REVOKED",
    "ALERT_CERTIFICATE_UNKNOWN",
    "ALERT_UNKNOWN_CA",
)
_NO_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST")
_UNTRUSTED = "CERTIFICATE_VERIFY_FAILED"
_TOO_LATE = "no response in time"


class TooSlow(TimeoutError):
    """A response arrives so slowly that it might never end."""


class TlsFileError(Exception):
    """A file with certificates or a key cannot be used. ``client``: it is the client certificate's, not the CA's."""

    def __init__(self, message: str, *, client: bool = False) -> None:
        super().__init__(message)
        self.client = client


class FailureKind(Enum):
    """Why there was no response, or not all of it."""

    INVALID_URL = "the URL is invalid"
    INVALID_HEADER = "a header, such as the login's, cannot be sent"
    UNTRUSTED_CERTIFICATE = "the server's certificate cannot be verified"
    CLIENT_CERTIFICATE = "the server requires a client certificate, or rejected ours"
    NO_TLS = "the server does not speak TLS"
    PROXY = "the proxy cannot be reached, or refuses"
    NOT_CONNECTED = "no connection was made, so nothing was sent"
    INTERRUPTED = "the connection broke, timed out or carried something other than HTTP"


@dataclass(frozen=True, slots=True)
class Failure:
    """``host`` was asked in the end, after redirects; ``""`` if the error does not say.

    ``why`` is a phrase for a message.
    """

    kind: FailureKind
    host: str
    why: str


def classify(error: BaseException) -> Failure:
    """What one of ``BROKEN`` means."""
    kind = _kind(error)
    if kind is FailureKind.UNTRUSTED_CERTIFICATE:
        _, _, rest = str(error).partition("certificate verify failed: ")
        why = clean(rest.partition(" (_ssl.c")[0].strip("')\" ")) or "it is not trusted"
    elif kind is FailureKind.INVALID_URL:
        why = "it is not a valid URL"  # the library's words repeat the URL, with what it may hold of a login
    elif kind is FailureKind.INVALID_HEADER:
        why = "its value is not valid in a header"  # the library's words quote it
    elif isinstance(error, requests.exceptions.Timeout):
        why = _TOO_LATE
    else:
        why = _root_cause(error)
    return Failure(kind, _host_of(error), why)


def clean(text: str, limit: int = 200) -> str:
    """Text from a server, or from an SDK, made safe for one line of a message."""
    return "".join(character if character.isprintable() else " " for character in text)[:limit]


def _kind(error: BaseException) -> FailureKind:
    if _says(error, (_UNTRUSTED,)):
        return FailureKind.UNTRUSTED_CERTIFICATE
    if _says(error, _CLIENT_CERTIFICATE):
        return FailureKind.CLIENT_CERTIFICATE
    if isinstance(error, requests.exceptions.SSLError) and _says(error, _NO_TLS):
        return FailureKind.NO_TLS
    if isinstance(error, requests.exceptions.InvalidHeader):
        return FailureKind.INVALID_HEADER
    if isinstance(error, requests.RequestException | HTTPError) and isinstance(error, ValueError):
        return FailureKind.INVALID_URL  # InvalidURL, LocationParseError, …
    if isinstance(error, requests.exceptions.ProxyError) or "Tunnel connection failed" in str(error):
        return FailureKind.PROXY
    reason = getattr(error.args[0], "reason", None) if error.args else None
    if isinstance(error, requests.exceptions.ConnectTimeout) or isinstance(reason, NewConnectionError):
        return FailureKind.NOT_CONNECTED
    return FailureKind.INTERRUPTED


def _says(error: BaseException, words: tuple[str, ...]) -> bool:
    text = str(error).upper().replace(" ", "_")
    return any(word in text for word in words)


def _host_of(error: BaseException) -> str:
    url = error.request.url if isinstance(error, requests.RequestException) and error.request is not None else None
    try:
        return parse_url(url or "").netloc
    except ValueError:
        return ""


def _root_cause(error: BaseException) -> str:
    """The words of the first of the errors that led to this one."""
    for _ in range(8):
        following = error.__cause__ or error.__context__
        if following is None:
            break
        error = following
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, IncompleteRead):
        return "the connection broke before the end"
    if isinstance(error, TimeoutError) and not isinstance(error, TooSlow):
        return _TOO_LATE
    return clean(str(error)) or type(error).__name__
