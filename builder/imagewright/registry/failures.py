"""A registry's refusals and broken connections as errors for the user.

Reads the rest of a refusal. A registry's own words are shown, bounded and without control characters: they are not to
be trusted.
"""

from __future__ import annotations

from collections.abc import Sequence

import requests

from imagewright import jsontext
from imagewright.errors import Reason, RegistryError
from imagewright.http.body import BodyReader
from imagewright.http.failures import BROKEN, FailureKind, TlsFileError, classify, clean
from imagewright.http.retry import Refusal, retry_after_s
from imagewright.logins import shown_url
from imagewright.records import dataclass
from imagewright.registry.endpoints import Endpoint

NOT_FOUND = "not found"
_CHECK_NAME = "Check the name and the tag"
_MAX_WORDS_BYTES = 8192
_UNAVAILABLE_HINT = "The network or the registry is in trouble; try again later."


class Refused(RegistryError, Refusal):
    """A response with an unexpected status. ``words`` are the registry's own, ``""`` if it gave none."""

    def __init__(self, error: RegistryError, words: str, retry_after_s: float) -> None:
        super().__init__(error.message, why=error.why, status=error.status, reason=error.reason, hint=error.hint)
        self.words = words
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class Attempted:
    """What was asked of a registry, for messages."""

    endpoint: Endpoint
    method: str
    repository: str
    pushing: bool

    def __str__(self) -> str:
        return f"cannot {'push to' if self.pushing else 'pull from'} {self.endpoint.host}/{self.repository}"


@dataclass(frozen=True, slots=True)
class Tried:
    """An address that was asked for an image, and its error. ``label`` is the endpoint's, for messages."""

    endpoint: Endpoint
    label: str
    error: RegistryError

    @property
    def lacks_it(self) -> bool:
        return self.error.why == NOT_FOUND

    def why(self, action: str) -> str:
        """What it said, with its name."""
        said = self.error.why.removeprefix(f"{action}: ")
        if self.lacks_it:
            return f"{said} in {self.label}"
        return said if self.endpoint.host in said else f"{self.label}: {said}"


def pull_failed(action: str, tried: Sequence[Tried]) -> RegistryError:
    """For an image, or a part of one, that none of the addresses has given: what each said, in their order.

    ``action`` names the image: ``cannot pull busybox:1``. The last address is the registry's own, or the last mirror's.
    """
    last, lacking = tried[-1], [one.label for one in tried if one.lacks_it]
    reason, hint = last.error.reason, last.error.hint
    if lacking and not last.error.status and reason is Reason.REGISTRY_UNAVAILABLE:  # its answer would not differ
        reason = Reason.BASE_IMAGE_PULL_FAILED
        hint = (
            f"{_CHECK_NAME}; if they are right, put the image into {lacking[0]}, or let the build reach {last.label}."
        )
    words = "; ".join(one.why(action) for one in tried)
    return RegistryError(f"{action}: {words}", why=words, status=last.error.status, reason=reason, hint=hint)


def push_failed(error: RegistryError, action: str) -> RegistryError:
    """The same failure as one of the push. Its reason stays if a login or the network is the cause."""
    reason, why = error.reason, error.why
    if reason is Reason.REGISTRY_PROTOCOL_ERROR or error.status == 413:
        reason = Reason.PUSH_FAILED
    elif reason is not Reason.REGISTRY_UNAVAILABLE or error.status:
        return error  # which says what was attempted
    return RegistryError(f"{action}: {why}", why=why, status=error.status, reason=reason, hint=error.hint)


def not_found(action: str, label: str) -> RegistryError:
    """For an image that a registry does not have."""
    return RegistryError(
        f"{action}: {NOT_FOUND} in {label}",
        why=NOT_FOUND,
        status=404,
        reason=Reason.BASE_IMAGE_PULL_FAILED,
        hint=f"{_CHECK_NAME}.",
    )


def unreachable(endpoint: Endpoint, error: BaseException) -> RegistryError:
    """For one of ``http.failures.BROKEN``."""
    failure = classify(error)
    host, why = failure.host or endpoint.host, failure.why
    match failure.kind:
        case FailureKind.UNTRUSTED_CERTIFICATE:
            return RegistryError(
                f"cannot verify the certificate of {host}: {why}",
                hint="Give its CA with --registry-certificate HOST=FILE (ImageBuild: spec.registries[].caBundleRef or "
                "spec.output.caBundleRef).",
            )
        case FailureKind.CLIENT_CERTIFICATE:
            shown = endpoint.tls.client_cert_file
            return RegistryError(
                f'{host} rejected the client certificate "{shown}"'
                if shown
                else f"{host} requires a client certificate",
                reason=Reason.REGISTRY_AUTH_FAILED,
                hint="Give one that it accepts with --registry-client-cert HOST=CERT,KEY (ImageBuild: "
                "spec.registries[].clientCertificateSecretRef).",
            )
        case FailureKind.NO_TLS:
            return RegistryError(
                f"cannot connect to {host}: it does not speak TLS",
                hint="For a registry with plain HTTP, use --insecure-registry HOST (ImageBuild: spec.registries[].insecure).",
            )
        case FailureKind.INVALID_URL:
            return protocol_error(f"invalid redirect from {endpoint}: {why}")
        case FailureKind.INVALID_HEADER:
            return RegistryError(
                f"cannot send the login to {host}: {why}",
                reason=Reason.REGISTRY_AUTH_FAILED,
                hint="Give the token or the password without line breaks and without blanks around it.",
            )
        case FailureKind.PROXY:
            return RegistryError(
                f"cannot reach {host} through the proxy: {why}",
                hint="Check HTTPS_PROXY or HTTP_PROXY, and the login in it; list hosts to be reached directly in NO_PROXY.",
            )
        case FailureKind.NOT_CONNECTED | FailureKind.INTERRUPTED:
            return RegistryError(f"cannot reach {host}: {why}", hint="Check the host name, the port and the network.")


def interrupted(what: str, why: str) -> RegistryError:
    """For a response that did not arrive whole."""
    return RegistryError(f"{what}: {why}", hint=_UNAVAILABLE_HINT)


def unusable_file(endpoint: Endpoint, error: TlsFileError) -> RegistryError:
    """For a certificate or key that cannot be used."""
    if error.client:
        return RegistryError(
            f"cannot connect to {endpoint.host}: {error}",
            reason=Reason.REGISTRY_AUTH_FAILED,
            hint="Both must be PEM files: the certificate followed by its intermediates, and its key without a passphrase.",
        )
    return RegistryError(
        f"cannot connect to {endpoint.host}: {error}", hint="Give a file with certificates in PEM form."
    )


def refused(attempted: Attempted, response: requests.Response) -> Refused:
    """For a response with an unexpected status; closes it."""
    status = response.status_code
    words = _words(_rest(response))
    said = f": {words}" if words else ""
    reason = Reason.REGISTRY_UNAVAILABLE
    if status in (401, 403):
        why, reason = f"access denied (status {status}{said})", Reason.REGISTRY_AUTH_FAILED
        hint = "Check the user name, the password and its rights, and that the repository exists."
    elif status == 429:
        why, hint = f"rate limit exceeded (status {status}{said})", "Log in, or try again later."
    else:
        why = f"{attempted.method} failed with status {status}" + (f" ({words})" if words else "")
        if status >= 500 or status in (408, 425):
            hint = "The registry is in trouble; try again later."
        else:
            reason = Reason.REGISTRY_PROTOCOL_ERROR
            hint = "Check that the repository exists and that the address is a registry's."
            if words:
                hint = "Look up the registry's own words in its documentation."
    error = RegistryError(f"{attempted}: {why}", why=why, status=status, reason=reason, hint=hint)
    return Refused(error, words, retry_after_s(response.headers.get("Retry-After", "")))


def protocol_error(message: str, hint: str = "") -> RegistryError:
    """For a response that a registry must not give."""
    hint = hint or "The registry, or a proxy in front of it, does not follow the distribution specification."
    return RegistryError(message, reason=Reason.REGISTRY_PROTOCOL_ERROR, hint=hint)


def too_large(response_url: str, why: str) -> RegistryError:
    """For a response that is larger than any of its kind."""
    return protocol_error(f"the response of {clean(shown_url(response_url))} is too large: {why}")


def _rest(response: requests.Response) -> bytes:
    data, body = b"", BodyReader(response, decode=True)
    try:
        while len(data) < _MAX_WORDS_BYTES and (chunk := body.read(_MAX_WORDS_BYTES - len(data))):
            data += chunk
    except BROKEN:
        pass
    finally:
        response.close()
    return data


def _words(body: bytes) -> str:
    """The registry's own words (distribution specification, "Error codes")."""
    try:
        first = jsontext.loads(body)["errors"][0]
        code, message = first.get("code", ""), first.get("message", "")
        detail = _sentence(first.get("detail"))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return ""
    return f"{clean(str(code), 60)}: {clean(str(message), 300)}" + (f", {clean(detail)}" if detail else "")


def _sentence(detail: object) -> str:
    """The sentence in an error's ``detail``, which may be anything: Quay and Artifactory say there what matters."""
    if isinstance(detail, dict):
        detail = next((detail[name] for name in ("message", "description") if name in detail), "")
    return detail if isinstance(detail, str) else ""
