"""What a registry's refusals and broken connections mean to the user.

Pure but for reading the rest of an answer. Called by all of ``registry`` that talks. A registry's own words are shown, bounded
and without control characters: they are a stranger's text.
"""

from __future__ import annotations

import json
import time
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import requests

from imagewright.errors import Reason, RegistryError
from imagewright.http.session import BROKEN, certificate_fault, root_cause
from imagewright.registry.endpoints import Endpoint

_SAID_BYTES = 8192
# What a server that wants a client certificate ends a connection with (RFC 8446, 6.2), as OpenSSL names it.
_CLIENT_CERTIFICATE = (
    "ALERT_CERTIFICATE_REQUIRED",
    "ALERT_BAD_CERTIFICATE",
    "ALERT_UNSUPPORTED_CERTIFICATE",
    "ALERT_CERTIFICATE_EXPIRED",
    "ALERT_CERTIFICATE_REVOKED",
    "ALERT_CERTIFICATE_UNKNOWN",
    "ALERT_UNKNOWN_CA",
)
_CLIENT_CERTIFICATE_HINT = (
    "Name it with --registry-client-cert HOST=CERT,KEY (ImageBuild: registries[].clientCertificateSecretRef)."
)
_NO_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST")
_INSECURE_HINT = "For a registry with plain HTTP use --insecure-registry HOST (ImageBuild: registries[].insecure)."


class Refused(RegistryError):
    """An answer with a status that is none of the expected. ``retry_after_s`` is what it asks us to wait, 0 if nothing."""

    def __init__(self, error: RegistryError, retry_after_s: float) -> None:
        super().__init__(error.message, status=error.status, reason=error.reason, hint=error.hint)
        self.retry_after_s = retry_after_s


def is_lasting(error: BaseException) -> bool:
    """Whether a broken connection will break again: certificates, plain HTTP, addresses that are none."""
    if isinstance(error, requests.exceptions.SSLError):
        return not_tls(error) or _says(error, ("CERTIFICATE_VERIFY_FAILED", *_CLIENT_CERTIFICATE))
    return isinstance(error, ValueError)  # InvalidURL, InvalidSchema, InvalidHeader, …


def not_tls(error: BaseException) -> bool:
    """Whether the other side answered a TLS greeting with something that is no TLS."""
    return _says(error, _NO_TLS)


def _says(error: BaseException, words: tuple[str, ...]) -> bool:
    text = str(error).upper().replace(" ", "_")
    return any(word in text for word in words)


def unreachable(endpoint: Endpoint, error: BaseException) -> RegistryError:
    """For a connection that broke or never was."""
    host = _host_of(error) or endpoint.host
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return RegistryError(
            f"the certificate of {host} can't be verified: {_certificate_fault(error)}",
            hint="Name its CA: registries[].caBundleRef or output.caBundleRef of an ImageBuild, "
            "--registry-certificate HOST=FILE on the command line.",
        )
    if _says(error, _CLIENT_CERTIFICATE):
        shown = endpoint.client_cert_file
        return RegistryError(
            f"{host} does not accept the client certificate {shown}"
            if shown
            else f"{host} asks for a client certificate",
            reason=Reason.REGISTRY_AUTH_FAILED,
            hint=_CLIENT_CERTIFICATE_HINT,
        )
    if isinstance(error, requests.exceptions.SSLError) and not_tls(error):
        return RegistryError(f"{host} does not speak TLS", hint=_INSECURE_HINT)
    if isinstance(error, requests.RequestException) and isinstance(error, ValueError):
        return protocol_error(f"{endpoint} leads to an address that is none: {clean(str(error))}")
    why = "no answer in time" if isinstance(error, requests.exceptions.Timeout) else _root_cause(error)
    if isinstance(error, requests.exceptions.ProxyError) or "Tunnel connection failed" in str(error):
        return RegistryError(
            f"{host} can't be reached through the proxy: {why}",
            hint="HTTPS_PROXY or HTTP_PROXY names it, with its login; hosts in NO_PROXY are reached without it.",
        )
    return RegistryError(f"{host} can't be reached: {why}", hint="Check the host's name, port and the network.")


def refused(endpoint: Endpoint, what: str, pushing: bool, response: requests.Response) -> Refused:
    """For an answer that is not among the expected ones; closes it. ``what`` is method and repository."""
    status = response.status_code
    said = _said(_rest(response))
    wait = retry_after_s(response.headers.get("Retry-After", ""))
    host = endpoint.host
    reason, hint = Reason.REGISTRY_UNAVAILABLE, ""
    if status in (401, 403):
        message = f"{host} does not let us {'push to' if pushing else 'pull from'} {what.partition(' ')[2]}: status {status}{said}"
        reason, hint = (
            Reason.REGISTRY_AUTH_FAILED,
            "Check user name, password and rights, and that the repository exists.",
        )
    elif status == 429:
        message, hint = f"{host} limits our rate{said}", "Log in, or try again later."
    elif status >= 500 or status == 408:
        message, hint = f"{what} at {host}: status {status}{said}", "The registry is in trouble; try again later."
    else:
        message, reason = f"{what} at {host}: status {status}{said}", Reason.REGISTRY_PROTOCOL_ERROR
        hint = (
            "Check that the repository exists and that the address is a registry's."
            if not said
            else ("The registry's own words say why.")
        )
    return Refused(RegistryError(message, status=status, reason=reason, hint=hint), wait)


def protocol_error(message: str, hint: str = "") -> RegistryError:
    """For an answer that no registry may give."""
    hint = hint or "The registry, or a proxy before it, answers with something else than the distribution protocol."
    return RegistryError(message, reason=Reason.REGISTRY_PROTOCOL_ERROR, hint=hint)


def retry_after_s(value: str) -> float:
    """Retry-After in seconds: a number, or a date (RFC 9110, 10.2.3); 0 for anything else."""
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return 0.0


def clean(text: str, limit: int = 200) -> str:
    """A stranger's text for one line of a message."""
    return "".join(c if c.isprintable() else " " for c in text)[:limit]


def _rest(response: requests.Response) -> bytes:
    try:
        return response.raw.read(_SAID_BYTES, decode_content=True) or b""
    except BROKEN:
        return b""
    finally:
        response.close()


def _said(body: bytes) -> str:
    """The registry's own words, as the distribution specification's error document has them."""
    try:
        first = json.loads(body)["errors"][0]
        code, message = first.get("code", ""), first.get("message", "")
        detail = _words_of(first.get("detail"))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return ""
    return f" ({clean(str(code), 60)}: {clean(str(message), 300)}{f', {clean(detail, 200)}' if detail else ''})"


def _words_of(detail: object) -> str:
    """The sentence in an error's ``detail``, which may be anything: Quay and Artifactory have what matters only there."""
    if isinstance(detail, dict):
        detail = next((detail[name] for name in ("message", "description") if name in detail), "")
    return detail if isinstance(detail, str) else ""


def _host_of(error: BaseException) -> str:
    """The host that was really asked: after a redirect it is another than the registry."""
    url = error.request.url if isinstance(error, requests.RequestException) and error.request is not None else None
    try:
        return urlsplit(url or "").netloc.rpartition("@")[2]
    except ValueError:
        return ""


def _certificate_fault(error: BaseException) -> str:
    return clean(certificate_fault(error).strip("')\" ")) or "it is not trusted"


def _root_cause(error: BaseException) -> str:
    cause = root_cause(error)
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    return clean(str(cause)) or type(cause).__name__
