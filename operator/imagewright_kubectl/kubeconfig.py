"""The kubeconfig with kubectl's flags: which cluster, as which user, in which namespace.

I/O: reads the kubeconfig, and runs its credential plugin if it has one.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import urllib3
import yaml
from kubernetes import client, config

from imagewright_kubectl.client import ApiServer
from imagewright_kubectl.errors import ClusterError
from imagewright_operator.kubeapi.config import SERVICE_ACCOUNT_NAMESPACE

_DEFAULT_FILE = "~/.kube/config"


@dataclass(frozen=True, slots=True)
class ConfigFlags:
    """kubectl's flags that choose a cluster; "" where one is not set."""

    kubeconfig: str = ""
    context: str = ""
    namespace: str = ""

    @property
    def files(self) -> str:
        """The kubeconfig's file, or several as KUBECONFIG lists them."""
        return self.kubeconfig or os.environ.get("KUBECONFIG") or _DEFAULT_FILE


@dataclass(frozen=True, slots=True)
class Connection:
    """An API server, and the namespace to use unless a manifest names one."""

    api: ApiServer
    namespace: str


def connect(flags: ConfigFlags) -> Connection:
    """By the kubeconfig; in a Pod without one, by the Pod's service account, as kubectl does.

    Raises:
        ClusterError: neither can be used.
    """
    settings = client.Configuration()
    settings.retries = False  # ApiServer retries what may be retried
    is_chosen = bool(flags.kubeconfig or flags.context)
    if not is_chosen and not _exists(flags.files) and SERVICE_ACCOUNT_NAMESPACE.exists():
        namespace = _in_cluster(settings)
    else:
        namespace = _from_kubeconfig(flags.files, flags.context, settings)
    if not settings.verify_ssl:
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
    return Connection(ApiServer(client.ApiClient(settings)), flags.namespace or namespace)


def _from_kubeconfig(files: str, context: str, settings: client.Configuration) -> str:
    """Fill ``settings``; the context's namespace."""
    if not _exists(files):
        raise ClusterError(f'kubeconfig "{files}" not found', hint="Name a kubeconfig with --kubeconfig or KUBECONFIG.")
    try:
        config.load_kube_config(  # type: ignore[no-untyped-call]
            config_file=files, context=context or None, client_configuration=settings, persist_config=False
        )
        contexts, active = config.list_kube_config_contexts(config_file=files)  # type: ignore[no-untyped-call]
    except (config.ConfigException, OSError, yaml.YAMLError, ValueError, TypeError, KeyError) as error:
        raise ClusterError(
            f'cannot use kubeconfig "{files}": {error}',
            hint="Name another file with --kubeconfig or KUBECONFIG, or one of its contexts with --context.",
        ) from error
    chosen = next((one for one in contexts if one["name"] == context), active) if context else active
    return (chosen.get("context") or {}).get("namespace") or "default"


def _in_cluster(settings: client.Configuration) -> str:
    """Fill ``settings``; the Pod's namespace."""
    try:
        config.load_incluster_config(client_configuration=settings)  # type: ignore[no-untyped-call]
        return SERVICE_ACCOUNT_NAMESPACE.read_text().strip() or "default"
    except (config.ConfigException, OSError) as error:
        raise ClusterError(
            f"no kubeconfig found, and cannot use the Pod's service account: {error}",
            hint="Name a kubeconfig with --kubeconfig or KUBECONFIG.",
        ) from error


def _exists(files: str) -> bool:
    return any(os.path.exists(os.path.expanduser(file)) for file in files.split(os.pathsep) if file)
