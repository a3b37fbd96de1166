"""kopf's handlers: every watch event enqueues an ImageBuild. The async side ends here.

I/O: none of its own; kopf holds the watches. Only ``on.event`` handlers: they need no finalizer, no annotation and no
memory of kopf's, and the object is read from the API server when it is processed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import kopf

from imagewright_operator.api import GROUP, PLURAL, VERSION
from imagewright_operator.kubeapi.config import Access
from imagewright_operator.pods.manifests import NAME_LABEL, POD_SELECTOR
from imagewright_operator.reconcile.limiter import ObjectKey
from imagewright_operator.watch.controller import Controller
from imagewright_operator.watch.responses import Login


def register(registry: kopf.OperatorRegistry, controller: Controller, access: Callable[[], Access]) -> None:
    """Add the handlers to kopf's ``registry``; kopf authenticates like everything else, by ``access``."""

    login = Login(access)

    @kopf.on.login(registry=registry)
    async def log_in(**_: Any) -> kopf.AiohttpSession:
        return await login.session()

    @kopf.on.event(GROUP, VERSION, PLURAL, registry=registry)
    async def imagebuild_changed(type: str | None, namespace: str | None, name: str | None, **_: Any) -> None:
        if type is None:  # the initial list of a watch: the resync handles all of it, with two requests
            controller.relist()
        else:
            controller.enqueue(namespace or "", name or "")

    @kopf.on.event("", "v1", "pods", registry=registry)
    async def pod_changed(type: str | None, namespace: str | None, body: kopf.Body, **_: Any) -> None:
        name = body.metadata.labels.get(NAME_LABEL)
        if type is None:
            controller.relist()
        elif name:
            controller.pod_changed(ObjectKey(namespace or "", name), dict(body), gone=type == "DELETED")


def configure_kopf(settings: kopf.OperatorSettings, *, clusterwide: bool) -> None:
    """kopf's own settings: no peering, no Events or annotations, and timeouts for the watches."""
    settings.peering.standalone = True
    settings.posting.enabled = False  # the operator posts its own, with names that make them unique
    settings.watching.label_selectors["pods"] = POD_SELECTOR
    settings.watching.server_timeout = 60  # the watch is resumed then: one that hangs costs a minute
    settings.watching.client_timeout = 75
    settings.watching.connect_timeout = 10
    settings.scanning.disabled = not clusterwide  # watching CRDs and namespaces needs permissions in the whole cluster
