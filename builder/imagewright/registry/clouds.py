"""Logins that clouds and CI systems give to what runs in them: Amazon, Google, Azure, GitLab, plain variables.

Asks the clouds' SDKs, if they are installed, which read files, the environment and the machine's metadata. Each
``from_`` function returns None for hosts that are not its own, and raises what its SDK raises.
"""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Callable, Mapping
from functools import partial

from imagewright import jsontext
from imagewright.errors import Reason, RegistryError
from imagewright.http.body import TooLarge, read_body
from imagewright.http.exchange import HttpClient, HttpRequest
from imagewright.http.failures import BROKEN, clean
from imagewright.http.retry import Refusal, RetryPolicy, StatusRefusal, with_retries
from imagewright.http.session import Tls
from imagewright.registry.answers import Answers
from imagewright.registry.auth import Login

_ECR = re.compile(
    r"[0-9]{12}\.dkr[.-]ecr(?:-fips)?\.([a-z0-9-]+)\.(?:amazonaws\.com(?:\.cn)?|on\.aws|on\.amazonwebservices\.com\.cn)"
)
_ECR_PUBLIC = "public.ecr.aws"
_ECR_PUBLIC_REGION = "us-east-1"  # the only region that issues its logins
_GOOGLE = re.compile(r"(?:[a-z]+\.)?gcr\.io|[a-z0-9-]+-docker\.pkg\.dev|docker\.pkg\.dev")
_GOOGLE_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
_AZURE = re.compile(r"[a-z0-9-]+\.azurecr\.(?:io|cn|us|de)")
_AZURE_SCOPE = "https://containerregistry.azure.net/.default"
_AZURE_USER = "00000000-0000-0000-0000-000000000000"
_MAX_ANSWER_BYTES = 1 << 20


def from_variables(host: str, environment: Mapping[str, str]) -> Login | None:
    """``DOCKER_registry_example_com_USR`` and ``_PSW``; or, as a last resort, of a host name shortened from the right.

    For ghcr.io, GITHUB_TOKEN with GITHUB_ACTOR.
    """
    labels = [label.replace("-", "_") for label in re.split(r"[.:]", host)]
    for end in range(len(labels), 0, -1):
        prefix = "DOCKER_" + "_".join(labels[:end])
        user, password = environment.get(f"{prefix}_USR", ""), environment.get(f"{prefix}_PSW", "")
        if user and password:
            return Login(user, password)
    if host == "ghcr.io" and environment.get("GITHUB_TOKEN"):
        return Login(environment.get("GITHUB_ACTOR") or "x-access-token", environment["GITHUB_TOKEN"])
    return None


def from_gitlab(host: str, environment: Mapping[str, str]) -> Login | None:
    """The login of a GitLab job for its own registry and dependency proxy."""
    server = environment.get("CI_REGISTRY", "")
    if server and host == server:
        user, password = environment.get("CI_REGISTRY_USER", ""), environment.get("CI_REGISTRY_PASSWORD", "")
        if user and password:
            return Login(user, password)
        token = environment.get("CI_JOB_TOKEN", "")
        return Login("gitlab-ci-token", token) if token else None
    proxy = environment.get("CI_DEPENDENCY_PROXY_SERVER", "").removesuffix(":443")
    if proxy and host == proxy:
        user = environment.get("CI_DEPENDENCY_PROXY_USER", "")
        password = environment.get("CI_DEPENDENCY_PROXY_PASSWORD", "")
        return Login(user, password) if user and password else None
    return None


def from_amazon(host: str, environment: Mapping[str, str]) -> Login | None:
    """ECR's token for 12 hours, by boto3's chain of credentials (extra ``ecr``)."""
    match = _ECR.fullmatch(host)
    if match is None and host != _ECR_PUBLIC:
        return None
    import boto3  # noqa: PLC0415 -- an extra

    if match is None:
        answer = boto3.session.Session().client("ecr-public", region_name=_ECR_PUBLIC_REGION).get_authorization_token()
        data = answer["authorizationData"]
    else:
        answer = boto3.session.Session().client("ecr", region_name=match[1]).get_authorization_token()
        data = answer["authorizationData"][0]
    user, _, password = base64.b64decode(data["authorizationToken"]).decode().partition(":")
    return Login(user, password)


def from_google(host: str, environment: Mapping[str, str]) -> Login | None:
    """An access token of google-auth's default credentials (extra ``gcr``)."""
    if not _GOOGLE.fullmatch(host):
        return None
    import google.auth  # noqa: PLC0415 -- an extra
    import google.auth.transport.requests  # noqa: PLC0415

    credentials, _ = google.auth.default(scopes=[_GOOGLE_SCOPE])
    credentials.refresh(google.auth.transport.requests.Request())  # type: ignore[no-untyped-call]
    return Login("oauth2accesstoken", str(credentials.token))


def from_azure(host: str, environment: Mapping[str, str]) -> Login | None:
    """ACR's refresh token, for one of azure-identity's default credentials (extra ``acr``)."""
    if not _AZURE.fullmatch(host):
        return None
    from azure.identity import DefaultAzureCredential  # noqa: PLC0415 -- an extra

    with DefaultAzureCredential() as credential:
        token = credential.get_token(_AZURE_SCOPE).token
    return Login(_AZURE_USER, identity_token=exchange_azure(f"https://{host}", host, token))


def exchange_azure(address: str, host: str, token: str) -> str:
    """Exchange an Azure AD token for a refresh token of the registry.

    Raises:
        RegistryError: reason ``RegistryAuthFailed``.
    """
    form = {"grant_type": "access_token", "service": host, "access_token": token}
    request = HttpRequest("POST", f"{address}/oauth2/exchange", form=form)
    try:
        with HttpClient() as client:

            def attempt() -> bytes:
                response = client.send(request, Tls())
                body = read_body(response, _MAX_ANSWER_BYTES)
                if response.status_code != 200:
                    raise StatusRefusal(response, body)
                return body

            # A token that is issued twice harms nobody, so that this POST counts as idempotent.
            refresh = jsontext.loads(with_retries(attempt, RetryPolicy(), idempotent=True))["refresh_token"]
    except (*BROKEN, Refusal, TooLarge, ValueError, KeyError, TypeError, RecursionError):
        refresh = None
    if not isinstance(refresh, str) or not refresh:
        raise RegistryError(
            f"cannot log in to {host}: it issued no token for the Azure identity of this Pod",
            reason=Reason.REGISTRY_AUTH_FAILED,
            hint="Give the identity the role AcrPush (AcrPull to pull) on the registry.",
        )
    return refresh


_Ask = Callable[[str, Mapping[str, str]], Login | None]
# In kaniko's order, with the extra that each requires.
_SOURCES: Mapping[str, tuple[_Ask, str]] = {
    "env": (from_variables, ""),
    "google": (from_google, "gcr"),
    "ecr": (from_amazon, "ecr"),
    "acr": (from_azure, "acr"),
    "gitlab": (from_gitlab, ""),
}
CREDENTIAL_HELPERS = tuple(_SOURCES)


class CloudKeychain:
    """Asks each of ``names`` (None: all) once per host. Errors are kept for the hint of a refusal."""

    def __init__(
        self,
        environment: Mapping[str, str],
        names: tuple[str, ...] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.environment = environment
        self._names = CREDENTIAL_HELPERS if names is None else names
        self._answers = Answers[str](clock)
        self._errors: dict[str, list[str]] = {}

    def find(self, host: str) -> Login | None:
        """The first login for a host."""
        return self._answers.find(host, partial(self._ask, host))

    def renew(self, host: str) -> None:
        """Ask again for the login for a host, which has refused the last one."""
        self._answers.renew(host, partial(self._ask, host))

    def hold(self) -> None:
        """Ask nobody from now on."""
        self._answers.hold()

    def errors(self, host: str) -> tuple[str, ...]:
        """Why there is no login for a host: sentences for a hint."""
        return tuple(self._errors.get(host, ()))

    def _ask(self, host: str) -> Login | None:
        self._errors[host] = []
        for name in self._names:
            ask, extra = _SOURCES[name]
            try:
                login = ask(host, self.environment)
            except ImportError:
                self._note(
                    host, f"Install the package for its logins: pip install '.[{extra}]' in a checkout of imagewright."
                )
            except Exception as error:  # noqa: BLE001 -- each SDK has errors of its own; the registry is still asked without
                self._note(host, f"(no login from {name}: {_line(error)})")
            else:
                if login is not None:
                    return login
        return None

    def _note(self, host: str, text: str) -> None:
        self._errors[host].append(text)


def _line(error: Exception) -> str:
    """The first line of an SDK's error, none of which contains a secret."""
    return clean(str(error).strip().partition("\n")[0] or type(error).__name__, 300)
