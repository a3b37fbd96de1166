"""How the operator reaches its API server, and what kopf needs to reach the same.

I/O: reads the Pod's service account or the kubeconfig.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kubernetes import client, config

from imagewright.errors import UsageError

CONTROLLER = "imagewright-operator"  # User-Agent, field manager and source of Events
SERVICE_ACCOUNT_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


@dataclass(frozen=True, slots=True)
class Access:
    """The API server's URL and the credentials for it; the files are PEM, "" where there is none."""

    server: str
    token: str
    ca_file: str
    certificate_file: str
    key_file: str
    insecure: bool


def connect() -> client.ApiClient:
    """By the Pod's service account, or else the kubeconfig.

    Raises:
        kubernetes.config.ConfigException: there is neither.
    """
    settings = client.Configuration()
    try:
        config.load_incluster_config(client_configuration=settings)  # type: ignore[no-untyped-call]
    except config.ConfigException:
        config.load_kube_config(client_configuration=settings)  # type: ignore[no-untyped-call]
    settings.retries = False  # the workqueue retries, with backoff
    return client.ApiClient(settings)


def access(api: client.ApiClient) -> Access:
    """As of now: the kubelet renews a service account's token every hour."""
    settings = api.configuration
    headers: dict[str, str] = {}
    api.update_params_for_auth(headers, [], ["BearerToken"], "", "GET", None)
    token = next((value for name, value in headers.items() if name.lower() == "authorization"), "")
    return Access(
        server=settings.host,
        token=token.partition(" ")[2] or token,
        ca_file=settings.ssl_ca_cert or "",
        certificate_file=settings.cert_file or "",
        key_file=settings.key_file or "",
        insecure=not settings.verify_ssl,
    )


def own_namespace(environment: Mapping[str, str], purpose: str, file: Path = SERVICE_ACCOUNT_NAMESPACE) -> str:
    """The namespace of the operator's own Pod, where the object is that ``purpose`` names: "the lease, which …".

    Raises:
        UsageError: it is unknown.
    """
    namespace, cause = environment.get("POD_NAMESPACE", "").strip(), f"{file} is empty"
    if not namespace:
        try:
            namespace = file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            cause = str(error)
    if not namespace:
        raise UsageError(
            f"cannot determine the namespace of {purpose}: {cause}",
            hint="Set POD_NAMESPACE to the operator's own namespace, as deploy/base/deployment.yaml does.",
        )
    return namespace
