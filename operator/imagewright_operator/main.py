"""The operator's process: settings from the environment, the health server, kopf.

I/O: environment, standard error, and all that it starts.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import kopf
from kubernetes import client
from kubernetes.config import ConfigException

from imagewright.errors import ImagewrightError
from imagewright_operator.cluster import Cluster
from imagewright_operator.kubeapi.config import Access, access, connect, own_namespace
from imagewright_operator.leadership.election import Elector, Leadership, LeaseTimings, own_identity
from imagewright_operator.leadership.leases import Leases
from imagewright_operator.monitoring.metrics import Metrics
from imagewright_operator.monitoring.server import HealthServer
from imagewright_operator.settings import Settings
from imagewright_operator.signingkey import KeySecret, SigningKey, key_of_file
from imagewright_operator.watch import handlers
from imagewright_operator.watch.controller import Controller

_LOG = logging.getLogger("imagewright_operator")
_RESTART_S = 5


def main() -> int:
    """Run until SIGTERM or SIGINT. Returns 2 for an invalid setting or without access to a cluster.

    An operator that loses its lease exits with 1 (``election.LOST``) at once.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    logging.getLogger("kopf").setLevel(logging.WARNING)
    metrics = Metrics()
    try:
        settings = Settings.from_environment(os.environ)
        for name in Settings.unknown(os.environ):
            _LOG.warning("ignoring unknown setting %s", name)
        api = connect()
        leadership = _leadership(api, settings, metrics) if settings.leader_election else None
        before = leadership.ensure_leading if leadership is not None else _unrestricted
        key = _signing_key(api, settings, metrics.request, before)
    except ImagewrightError as error:
        sys.stderr.write(error.render() + "\n")
        return 2
    except ConfigException as error:
        sys.stderr.write(
            f"error: cannot load a cluster configuration: {error}\nhint: Run the operator in a Pod, or set KUBECONFIG.\n"
        )
        return 2
    cluster = Cluster(api, metrics.request, before)
    operator = _Operator(
        Controller(cluster, settings, metrics, key), partial(access, api), settings.namespaces, leadership, metrics
    )
    health = HealthServer(settings.http_port, operator.is_alive, operator.is_ready, metrics.registry)
    _LOG.info("starting: executor image %s, Pod profile %s", settings.executor_image, settings.profile.value)
    try:
        asyncio.run(operator.run())
    finally:
        operator.stop()
        health.close()
    return 0


def _leadership(api: client.ApiClient, settings: Settings, metrics: Metrics) -> Leadership:
    timings = LeaseTimings(settings.lease_s)
    namespace = own_namespace(os.environ, "the lease, which IMAGEWRIGHT_LEADER_ELECTION requires")
    leases = Leases(api, namespace, settings.lease_name, timings.timeout_s, metrics.request)
    return Leadership(Elector(leases, own_identity(os.environ), timings), timings)


def _signing_key(
    api: client.ApiClient,
    settings: Settings,
    count: Callable[[str, str, int], None],
    before: Callable[[], None],
) -> SigningKey:
    if settings.signing_key_file:
        key = key_of_file(settings.signing_key_file)  # now: without a usable one the operator must not start
        return SigningKey(lambda: key)
    namespace = own_namespace(os.environ, f"the Secret {settings.signing_key_secret}, which has the key to sign Pods")
    return SigningKey(KeySecret(api, namespace, settings.signing_key_secret, count, before).read)


def _unrestricted() -> None:
    """Without leader election every request may be sent."""


@dataclass(frozen=True, slots=True)
class _Operator:
    """Waits until it is the leader, if there is a ``leadership``, and then works until a signal ends it."""

    controller: Controller
    access: Callable[[], Access]
    namespaces: tuple[str, ...]
    leadership: Leadership | None
    metrics: Metrics

    def is_alive(self) -> bool:
        return (self.leadership is None or self.leadership.is_alive()) and (
            not self._is_active() or self.controller.is_alive()
        )

    def is_ready(self) -> bool:
        """A standby is ready, too: a rolling update waits for each operator."""
        if self.leadership is not None and not self._is_active():
            return self.leadership.is_ready()
        return self.controller.is_ready()

    def _is_active(self) -> bool:
        return self.leadership is None or self.leadership.leads()

    def stop(self) -> None:
        """Let the workers finish, and only then another operator begin."""
        self.controller.stop()
        if self.leadership is not None:
            self.leadership.stop()

    async def run(self) -> None:
        """Until a signal ends it."""
        loop, stop = asyncio.get_running_loop(), asyncio.Event()
        _catch_signals(stop)
        stopped = asyncio.create_task(stop.wait())
        if self.leadership is not None:
            leads = asyncio.Event()

            def won() -> None:
                with contextlib.suppress(RuntimeError):  # the loop is closed: a signal has just arrived
                    loop.call_soon_threadsafe(leads.set)

            self.leadership.start(won)
            await asyncio.wait((asyncio.create_task(leads.wait()), stopped), return_when=asyncio.FIRST_COMPLETED)
        if not stopped.done():
            self.metrics.leader.set(1)
            self.controller.start()
        while not stopped.done():
            # While kopf runs it handles the signals itself; one that arrives before that cancels it.
            watches = asyncio.create_task(self._watch())
            await asyncio.wait((watches, stopped), return_when=asyncio.FIRST_COMPLETED)
            watches.cancel()
            try:
                await watches
            except asyncio.CancelledError:
                return
            except Exception as error:  # noqa: BLE001 - whatever it is: meanwhile the resync finds the changes
                _LOG.error("watches ended: %s; restarting in %d s", error, _RESTART_S)
                self.controller.relist()
            else:
                return
            _catch_signals(stop)
            await asyncio.wait((stopped,), timeout=_RESTART_S)

    async def _watch(self) -> None:
        """Some responses of an API server make kopf exit: the resync does its work until it runs again."""
        identity: Any = (
            "imagewright-operator"  # by default kopf uses the name of the user, which a container may not have
        )
        options = kopf.OperatorSettings()
        handlers.configure_kopf(options, clusterwide=not self.namespaces)
        registry = kopf.OperatorRegistry()
        handlers.register(registry, self.controller, self.access)
        await kopf.operator(
            registry=registry,
            settings=options,
            standalone=True,
            clusterwide=not self.namespaces,
            namespaces=self.namespaces,
            identity=identity,
        )


def _catch_signals(stop: asyncio.Event) -> None:
    """kopf replaces these handlers while it runs, and removes its own afterwards."""
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
