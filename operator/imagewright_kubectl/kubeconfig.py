"""Which cluster, as whom, in which namespace: the kubeconfig's answer, with kubectl's flags.

I/O: reads the kubeconfig, and runs its login helper if it names one. Called by the commands through ``connect``.
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

_DEFAULT_CONFIG = "~/.kube/config"


@dataclass(frozen=True, slots=True)
class Place:
    """kubectl's flags of this kind; "" is not given."""

    kubeconfig: str = ""
    context: str = ""
    namespace: str = ""


@dataclass(frozen=True, slots=True)
class Connection:
    """An API server, and the namespace that is meant where none is named."""

    api: ApiServer
    namespace: str


def connect(place: Place) -> Connection:
    """By the kubeconfig; within a Pod and without one, by the Pod's service account, as kubectl does.

    Raises:
        ClusterError: there is no usable one.
    """
    settings = client.Configuration()
    settings.retries = False  # what may be repeated is repeated knowingly
    file = kubeconfig_files(place)
    named = bool(place.kubeconfig or place.context)
    if not named and not _exists(file) and SERVICE_ACCOUNT_NAMESPACE.exists():
        namespace = _in_cluster(settings)
    else:
        namespace = _by_kubeconfig(file, place.context, settings)
    if not settings.verify_ssl:
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
    return Connection(ApiServer(client.ApiClient(settings)), place.namespace or namespace)


def kubeconfig_files(place: Place) -> str:
    """The file, or several as KUBECONFIG lists them."""
    return place.kubeconfig or os.environ.get("KUBECONFIG") or _DEFAULT_CONFIG


def _by_kubeconfig(file: str, context: str, settings: client.Configuration) -> str:
    if not _exists(file):
        raise ClusterError(
            f"there is no file {file} to say which cluster is meant",
            hint="--kubeconfig or KUBECONFIG names a kubeconfig.",
        )
    try:
        config.load_kube_config(  # type: ignore[no-untyped-call]
            config_file=file, context=context or None, client_configuration=settings, persist_config=False
        )
        contexts, active = config.list_kube_config_contexts(config_file=file)  # type: ignore[no-untyped-call]
    except (config.ConfigException, OSError, yaml.YAMLError, ValueError, TypeError, KeyError) as error:
        raise ClusterError(
            f"the kubeconfig {file} can't be used: {error}",
            hint="--kubeconfig or KUBECONFIG names another file, --context one of its contexts.",
        ) from error
    chosen = next((one for one in contexts if one["name"] == context), active) if context else active
    return (chosen.get("context") or {}).get("namespace") or "default"


def _in_cluster(settings: client.Configuration) -> str:
    try:
        config.load_incluster_config(client_configuration=settings)  # type: ignore[no-untyped-call]
        return SERVICE_ACCOUNT_NAMESPACE.read_text().strip() or "default"
    except (config.ConfigException, OSError) as error:
        raise ClusterError(
            f"there is no kubeconfig, and the Pod's service account can't be used: {error}",
            hint="--kubeconfig or KUBECONFIG names a file.",
        ) from error


def _exists(files: str) -> bool:
    return any(os.path.exists(os.path.expanduser(file)) for file in files.split(os.pathsep) if file)
