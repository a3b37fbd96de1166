"""A real API server with its etcd for the session, a namespace for each test, and operators that end with the test.

The operator logs in as its ServiceAccount, with no more rights than deploy/ gives it.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cluster.places import ClusterError
from imagebuilds.apiserver import ApiServer
from imagebuilds.namespace import Namespace
from imagebuilds.operator_process import Operator, operators_in
from imagebuilds.plugin import Plugin
from imagebuilds.proxy import Proxy
from installing.helm import Helm

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="session")
def api(tmp_path_factory: pytest.TempPathFactory, programs: Path) -> Iterator[ApiServer]:
    server = ApiServer(tmp_path_factory.mktemp("api"), programs)
    try:
        server.kubectl("apply", "--kustomize", str(ROOT / "deploy"))
        server.kubectl("wait", "--for=condition=Established", "crd/imagebuilds.imagewright.dev")
        yield server
    finally:
        server.stop()


@pytest.fixture
def namespaces(api: ApiServer) -> Iterator[Callable[[], Namespace]]:
    """Makes namespaces."""
    made: list[str] = []

    def make() -> Namespace:
        made.append(f"test-{uuid.uuid4().hex[:8]}")
        api.kubectl("create", "namespace", made[-1])
        api.kubectl("create", "serviceaccount", "default", f"--namespace={made[-1]}")
        return Namespace(api.try_kubectl, made[-1])

    yield make
    # No controller manager cleans up: what is left would keep the next test's operator busy.
    for name in made:
        api.kubectl("delete", "imagebuilds", "--all", f"--namespace={name}", "--wait=false")
        api.kubectl("delete", "pods", "--all", f"--namespace={name}", "--wait=false", "--force")


@pytest.fixture
def namespace(namespaces: Callable[[], Namespace]) -> Namespace:
    return namespaces()


@pytest.fixture
def plugin_of(namespace: Namespace) -> Callable[[Path], Plugin]:
    """The plugin with a kubeconfig, in the test's namespace."""
    return lambda kubeconfig: Plugin(kubeconfig, namespace.name)


@pytest.fixture
def plugin(api: ApiServer, plugin_of: Callable[[Path], Plugin]) -> Plugin:
    """The plugin as the administrator runs it."""
    return plugin_of(api.admin)


@pytest.fixture
def operators(api: ApiServer, tmp_path: Path) -> Iterator[Callable[..., Operator]]:
    """Makes operators, started, that end with the test."""
    with operators_in(tmp_path) as start:
        yield lambda kubeconfig=None, **settings: start(kubeconfig or api.kubeconfig("operator-token"), **settings)


@pytest.fixture
def operator(operators: Callable[..., Operator]) -> Operator:
    return operators()


@pytest.fixture
def proxy(api: ApiServer) -> Iterator[Proxy]:
    made = Proxy(api.port, api.certificate)
    yield made
    made.close()


@pytest.fixture(scope="session")
def helm(api: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """Helm; its tests are skipped where it cannot be built, and fail in CI."""
    try:
        return Helm(api.admin, tmp_path_factory.mktemp("helm"))
    except ClusterError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
