"""The operator's process: settings from the environment, probes, kopf.

I/O: environment, standard error, and all that it starts. Called by ``python -m imagewright_operator``.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Callable
from typing import Any

import kopf
from kubernetes.config import ConfigException

from imagewright.errors import ImagewrightError
from imagewright_operator import handlers
from imagewright_operator.cluster import Access, Cluster, connect
from imagewright_operator.controller import Controller
from imagewright_operator.metrics import Metrics
from imagewright_operator.probes import Probes
from imagewright_operator.settings import Settings

_LOG = logging.getLogger("imagewright_operator")
_PAUSE_S = 5


def main() -> int:
    """Run until SIGTERM or SIGINT; 2 when a setting can't be used or there is no cluster to talk to."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    logging.getLogger("kopf").setLevel(logging.WARNING)
    try:
        settings = Settings.from_environment(os.environ)
        for name in Settings.unknown(os.environ):
            _LOG.warning("%s is no setting of this version: it is ignored", name)
        api = connect()
    except ImagewrightError as error:
        sys.stderr.write(error.render() + "\n")
        return 2
    except ConfigException as error:
        sys.stderr.write(f"error: no cluster to talk to: {error}\nhint: Run it in a Pod, or set KUBECONFIG.\n")
        return 2
    metrics = Metrics()
    cluster = Cluster(api, metrics.request)
    controller = Controller(cluster, settings, metrics)
    probes = Probes(settings.http_port, controller.is_alive, controller.is_ready, metrics.registry)
    _LOG.info("starts; executor image %s, profile %s", settings.executor_image, settings.profile.value)
    controller.start()
    try:
        asyncio.run(_watch(controller, cluster.access, settings.namespaces))
    finally:
        controller.stop()
        probes.close()
    return 0


async def _watch(controller: Controller, access: Callable[[], Access], namespaces: tuple[str, ...]) -> None:
    """Until a signal ends it. Some answers of an API server end kopf: meanwhile the resync does without its watches."""
    identity: Any = (
        "imagewright-operator"  # else kopf looks for the name of the user, which in a container may have none
    )
    options = kopf.OperatorSettings()
    handlers.configure_kopf(options, clusterwide=not namespaces)
    while True:
        registry = kopf.OperatorRegistry()
        handlers.register(registry, controller, access)
        try:
            await kopf.operator(
                registry=registry,
                settings=options,
                standalone=True,
                clusterwide=not namespaces,
                namespaces=namespaces,
                identity=identity,
            )
        except Exception as error:  # noqa: BLE001 - whatever it is: what is watched is looked at by the resync as well
            _LOG.error("the watches have ended: %s; they start again in %d s", error, _PAUSE_S)
            await asyncio.sleep(_PAUSE_S)
        else:
            return
