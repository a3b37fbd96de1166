"""Leader election: of several operators the one that holds a Lease works, by Kubernetes' own rules.

I/O: through ``leases``; ends the process. Correctness does not depend on it (a build is recorded under a
resourceVersion, and its Pod's name follows from the record): it saves the API server a second operator's requests, and
lets one operator alone count the running builds.

The clocks of two machines are never compared. A standby takes over a lease that has not changed for its duration,
measured by its own clock since it saw the last change; the holder measures a shorter time, from before its last
successful request was sent. So the holder has always stopped before a standby begins, however wrong their clocks are.
"""

from __future__ import annotations

import logging
import os
import random
import socket
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Protocol

from imagewright_operator.api.base import Json
from imagewright_operator.clock import local_time
from imagewright_operator.kubeapi.errors import ApiError

_LOG = logging.getLogger(__name__)
LOST = 1  # exit code after losing the lease
_RETRY_S = 2.0
_JITTER = 0.2
_STUCK_S = 300.0


class Lease(Protocol):
    """A stored Lease, as ``Leases`` implements it."""

    def read(self) -> Json | None: ...
    def create(self, spec: Json) -> Json: ...
    def replace(self, body: Json) -> Json: ...


class ElectionResult(Enum):
    """The result of an attempt to acquire or renew the lease."""

    LEADER = auto()
    STANDBY = auto()
    LOST = auto()  # another operator holds it now


@dataclass(frozen=True, slots=True)
class LeaseTimings:
    """The lease's duration and the times that follow from it, by default Kubernetes' own: 15, 10 and 2 s."""

    lease_s: int

    @property
    def deadline_s(self) -> float:
        """How long the holder works after its last renewal."""
        return self.lease_s * 2 / 3

    @property
    def retry_s(self) -> float:
        """The time between two attempts."""
        return min(_RETRY_S, self.lease_s * 2 / 15)

    @property
    def timeout_s(self) -> float:
        """The timeout of a request: two fit into the deadline."""
        return self.deadline_s / 2


def own_identity(environment: Mapping[str, str]) -> str:
    """The Pod's name and a random suffix: a process that is restarted in the same Pod is another holder."""
    return f"{environment.get('POD_NAME', '').strip() or socket.gethostname()}_{uuid.uuid4()}"


def monotonic() -> float:
    """Monotonic seconds, which include the time that the machine is suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Elector:
    """The rules, without threads. ``holds`` may be called from any thread, everything else from one."""

    def __init__(
        self, lease: Lease, identity: str, timings: LeaseTimings, clock: Callable[[], float] = monotonic
    ) -> None:
        self._lease, self._identity, self._timings, self._clock = lease, identity, timings, clock
        self._body: Json = {}  # when last read
        self._version = ""  # its resourceVersion; "" if there is no Lease
        self._changed_at = float("-inf")
        self._leads = False
        self._until = float("-inf")

    def holds(self) -> bool:
        """Whether this operator holds the lease now."""
        return self._clock() < self._until

    def left_s(self) -> float:
        """How long the lease is held without another renewal."""
        return self._until - self._clock()

    @property
    def holder(self) -> str:
        """The holder when the lease was last read; "" for nobody."""
        return self._spec.get("holderIdentity") or ""

    @property
    def _spec(self) -> Json:
        return self._body.get("spec") or {}

    def try_acquire_or_renew(self) -> ElectionResult:
        """Acquire or renew the lease.

        Raises:
            ApiError: without an answer of the API server; a lease that was held is held until its deadline.
        """
        if not self._leads:
            self._refresh()
        for _ in range(2):
            if not self._may_acquire():
                return ElectionResult.LOST if self._leads else ElectionResult.STANDBY
            sent = self._clock()
            try:
                body = self._write(self._held_spec())
            except ApiError as error:
                if error.status not in (404, 409):
                    raise
                self._refresh()  # another was faster, or deleted it; or our last request was stored without an answer
                continue
            self._observe(body)
            self._leads, self._until = True, sent + self._timings.deadline_s
            return ElectionResult.LEADER
        return ElectionResult.STANDBY  # it keeps changing: try again later

    def release(self) -> None:
        """Release the lease, so that another operator can acquire it at once.

        Raises:
            ApiError: the others have to wait until it expires.
        """
        held, self._leads, self._until = self._leads, False, float("-inf")
        if not held:
            return
        for _ in range(2):
            if self.holder != self._identity or not self._version:
                return
            now = _micro_time()
            spec = {"holderIdentity": "", "leaseDurationSeconds": 1, "acquireTime": now, "renewTime": now}
            try:
                self._observe(self._write({**self._spec, **spec}))
            except ApiError as error:
                if error.status not in (404, 409):
                    raise
                self._refresh()

    def _may_acquire(self) -> bool:
        """A deleted Lease was not released: it has to expire like one that exists."""
        lasts_s = self._spec.get("leaseDurationSeconds") or self._timings.lease_s
        return self.holder in ("", self._identity) or self._clock() - self._changed_at > lasts_s

    def _held_spec(self) -> Json:
        now, spec = _micro_time(), self._spec
        held = {
            **spec,
            "holderIdentity": self._identity,
            "leaseDurationSeconds": self._timings.lease_s,
            "renewTime": now,
        }
        if self.holder != self._identity:
            held["acquireTime"] = now
            held["leaseTransitions"] = (spec.get("leaseTransitions") or 0) + 1 if self._body else 0
        return held

    def _write(self, spec: Json) -> Json:
        if not self._version:
            return self._lease.create(spec)
        return self._lease.replace({**self._body, "spec": spec})

    def _refresh(self) -> None:
        body = self._lease.read()
        if body is None:
            self._version = ""
        else:
            self._observe(body)

    def _observe(self, body: Json) -> None:
        version = body["metadata"]["resourceVersion"]
        if version != self._version:
            self._body, self._version, self._changed_at = body, version, self._clock()


class Leadership:
    """The threads: one acquires and renews the lease, one ends the process when it is not renewed in time.

    ``end`` is given the cause and does not return.
    """

    def __init__(self, elector: Elector, timings: LeaseTimings, end: Callable[[str], None] | None = None) -> None:
        self._elector, self._timings = elector, timings
        self._end = end or _end_process
        self._stopped = threading.Event()
        self._heard = threading.Event()
        self._leads = threading.Event()
        self._on_lead: Callable[[], None] = lambda: None
        self._heartbeat = time.monotonic()
        self._threads: list[threading.Thread] = []
        self._last_logged = ""

    def start(self, on_lead: Callable[[], None]) -> None:
        """Start the election; ``on_lead`` is called by one of its threads when this operator becomes the leader."""
        self._on_lead = on_lead
        self._run("leadership", self._run_election)

    def leads(self) -> bool:
        """Whether this operator has become the leader."""
        return self._leads.is_set()

    def is_ready(self) -> bool:
        """Whether the holder of the lease is known: a missing permission stops a rollout."""
        return self._heard.is_set()

    def is_alive(self) -> bool:
        """Whether the election makes progress. An unreachable API server does not warrant a restart."""
        return all(thread.is_alive() for thread in self._threads) and time.monotonic() - self._heartbeat < _STUCK_S

    def ensure_leading(self) -> None:
        """Return if this operator holds the lease, else end the process. Checked before each request.

        The process may have been frozen since the last check.

        Raises:
            ApiError: the lease was released.
        """
        if self._stopped.is_set():
            raise ApiError(0, "the operator is shutting down and has released its lease")
        if not self._elector.holds():
            self._end("the lease was not renewed in time")

    def stop(self) -> None:
        """Release the lease if it is held: nothing that needs it may still run."""
        self._stopped.set()
        for thread in self._threads:
            thread.join(self._timings.timeout_s)
            if thread.is_alive():  # a request hangs: the lease expires earlier than it could be released
                return
        try:
            self._elector.release()
        except ApiError as error:
            _LOG.warning("cannot release the lease: %s; it expires by itself", error)

    def _run(self, name: str, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _run_election(self) -> None:
        pause = 0.0
        while not self._stopped.wait(pause):
            self._heartbeat = time.monotonic()
            try:
                self._apply(self._elector.try_acquire_or_renew())
            except ApiError as error:
                self._log_once(logging.WARNING, f"cannot read or write the lease: {error}")
            except Exception:  # noqa: BLE001 - a defect must not end the thread: the deadline ends what it does not renew
                _LOG.exception("election attempt failed")
            pause = self._timings.retry_s * (1 if self.leads() else 1 + random.uniform(0, _JITTER))  # noqa: S311

    def _apply(self, result: ElectionResult) -> None:
        self._heard.set()
        if result is ElectionResult.LOST:
            self._end(f"{self._elector.holder} has acquired the lease")
        elif result is ElectionResult.STANDBY:
            self._log_once(logging.INFO, f"standing by: {self._elector.holder or 'another operator'} holds the lease")
        elif not self.leads():
            self._log_once(logging.INFO, f"became the leader as {self._elector.holder}")
            self._leads.set()
            self._run("lease-deadline", self._enforce_deadline)
            self._on_lead()
        else:
            self._last_logged = ""

    def _enforce_deadline(self) -> None:
        """End the process at the deadline, however long a request for the lease takes."""
        while not self._stopped.wait(max(0.0, self._elector.left_s())):
            if not self._elector.holds():
                self._end(f"the lease was not renewed for {self._timings.deadline_s:.3g} s")

    def _log_once(self, level: int, text: str) -> None:
        """Log a message once, not with every attempt."""
        if text != self._last_logged:
            self._last_logged = text
            _LOG.log(level, "%s", text)


def _end_process(cause: str) -> None:
    """Exit at once, whatever the workers are doing: the next holder relies on it."""
    _LOG.error("lost the lease: %s; exiting, to stand by after a restart", cause)
    os._exit(LOST)


def _micro_time() -> str:
    """The local time, for people: nothing depends on it."""
    return local_time().strftime("%Y-%m-%dT%H:%M:%S.%fZ")
