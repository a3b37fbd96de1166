"""Which of several operators works: the one that holds a Lease. The rules are those of Kubernetes' own components.

I/O: through ``leases``; ends the process. Started and stopped by ``main``; ``cluster`` asks ``assure`` before every request.
Nothing that must not happen depends on it (a build is claimed with a resourceVersion, a Pod's name follows from the claim):
it spares the API server a second operator's requests, and a limit of builds is counted by one alone.

Times of two machines are never compared. Who stands by takes a lease that has not changed for its duration, counted by
a clock of its own from the moment at which it saw the last change; who holds it counts from before its last successful
request was sent, and by less. So the one has always stopped when the other begins, however wrong their clocks are.
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
from pathlib import Path
from typing import Protocol

from imagewright.errors import UsageError
from imagewright_operator.api.base import Json
from imagewright_operator.clock import local_time
from imagewright_operator.kubeapi.config import SERVICE_ACCOUNT_NAMESPACE
from imagewright_operator.kubeapi.errors import ApiError

_LOG = logging.getLogger(__name__)
LOST = 1  # the exit code of an operator that has lost its lease
_RETRY_S = 2.0
_JITTER = 0.2
_STUCK_S = 300.0


class Lease(Protocol):
    """What ``Leases`` does."""

    def read(self) -> Json | None: ...
    def create(self, spec: Json) -> Json: ...
    def replace(self, body: Json) -> Json: ...


class ElectionResult(Enum):
    """What came of an attempt to get or to keep the lease."""

    LEADS = auto()
    STANDBY = auto()
    LOST = auto()  # it was held, and another holds it now


@dataclass(frozen=True, slots=True)
class LeaseTimings:
    """How long a lease lasts, and what follows from it: 15, 10 and 2 seconds, as Kubernetes' own components have it."""

    lease_s: int

    @property
    def deadline_s(self) -> float:
        """For how long a holder works after its last renewal."""
        return self.lease_s * 2 / 3

    @property
    def retry_s(self) -> float:
        """Between two attempts."""
        return min(_RETRY_S, self.lease_s * 2 / 15)

    @property
    def timeout_s(self) -> float:
        """Of one request: two fit into the deadline."""
        return self.deadline_s / 2


def own_namespace(environment: Mapping[str, str], file: Path = SERVICE_ACCOUNT_NAMESPACE) -> str:
    """The namespace of the operator's own Pod, where its lease is kept.

    Raises:
        UsageError: when nothing tells it.
    """
    namespace, cause = environment.get("POD_NAMESPACE", "").strip(), f"{file} is empty"
    if not namespace:
        try:
            namespace = file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            cause = str(error)
    if not namespace:
        raise UsageError(
            f"IMAGEWRIGHT_LEADER_ELECTION is true, and nothing says in which namespace the lease is to be: {cause}",
            hint="Set POD_NAMESPACE to the operator's own namespace, as deploy/base/deployment.yaml does.",
        )
    return namespace


def own_identity(environment: Mapping[str, str]) -> str:
    """The Pod's name and something random: one that is started again in the same Pod is another holder."""
    return f"{environment.get('POD_NAME', '').strip() or socket.gethostname()}_{uuid.uuid4()}"


def monotonic() -> float:
    """Seconds that never go back, and go on while the machine is suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Elector:
    """The rules, without threads. ``attempt`` and ``release`` are for one thread, ``holds`` is for all."""

    def __init__(
        self, lease: Lease, identity: str, timings: LeaseTimings, clock: Callable[[], float] = monotonic
    ) -> None:
        self._lease, self._identity, self._timings, self._clock = lease, identity, timings, clock
        self._body: Json = {}  # as seen last
        self._version = ""  # its resourceVersion; "" when it is gone, or has never been
        self._changed_at = float("-inf")
        self._leads = False
        self._until = float("-inf")

    def holds(self) -> bool:
        """Whether this one may work now."""
        return self._clock() < self._until

    def left_s(self) -> float:
        """How long it may work if nothing renews the lease."""
        return self._until - self._clock()

    @property
    def holder(self) -> str:
        """Who holds it, as seen last; "" nobody."""
        return self._spec.get("holderIdentity") or ""

    @property
    def _spec(self) -> Json:
        return self._body.get("spec") or {}

    def try_acquire_or_renew(self) -> ElectionResult:
        """Get the lease, or renew it.

        Raises:
            ApiError: when the API server doesn't say; what was held is held until its deadline.
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
                self._refresh()  # somebody was faster, or has deleted it; or our own last request was stored unanswered
                continue
            self._observe(body)
            self._leads, self._until = True, sent + self._timings.deadline_s
            return ElectionResult.LEADS
        return ElectionResult.STANDBY  # it changes all the time: the next attempt tells

    def release(self) -> None:
        """Let another take it at once.

        Raises:
            ApiError: it will have to wait until the lease is over.
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
        """One that is gone has not been given up: it is waited for as if it were there."""
        lasts_s = self._spec.get("leaseDurationSeconds") or self._timings.lease_s
        return self.holder in ("", self._identity) or self._clock() - self._changed_at > lasts_s

    def _held_spec(self) -> Json:
        now, spec = _micro_time(), self._spec
        claim = {
            **spec,
            "holderIdentity": self._identity,
            "leaseDurationSeconds": self._timings.lease_s,
            "renewTime": now,
        }
        if self.holder != self._identity:
            claim["acquireTime"] = now
            claim["leaseTransitions"] = (spec.get("leaseTransitions") or 0) + 1 if self._body else 0
        return claim

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
    """The threads: one that attempts, and one that ends the process where the attempts don't succeed in time.

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
        """Stand for election; ``on_lead`` is called, by a thread of this one's, when it is won."""
        self._on_lead = on_lead
        self._run("leadership", self._run_election)

    def leads(self) -> bool:
        """Whether it has been won, now or before."""
        return self._leads.is_set()

    def is_ready(self) -> bool:
        """Whether the API server has said who holds the lease: a right that is missing holds up a rollout."""
        return self._heard.is_set()

    def is_alive(self) -> bool:
        """Whether the attempts go on. An API server that doesn't answer is no reason to be restarted."""
        return all(thread.is_alive() for thread in self._threads) and time.monotonic() - self._heartbeat < _STUCK_S

    def ensure_leading(self) -> None:
        """Return where this operator may work. For each request anew: it may have been frozen since the last.

        Raises:
            ApiError: when it has given the lease back.
        """
        if self._stopped.is_set():
            raise ApiError(0, "this operator gives its lease back and ends")
        if not self._elector.holds():
            self._end("the lease has not been renewed in time")

    def stop(self) -> None:
        """Give the lease back, if it is held: nothing that needs it may go on."""
        self._stopped.set()
        for thread in self._threads:
            thread.join(self._timings.timeout_s)
            if thread.is_alive():  # a request that hangs: the lease is over before it is given back
                return
        try:
            self._elector.release()
        except ApiError as error:
            _LOG.warning("the lease can't be given back: %s; another takes it when it is over", error)

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
                self._log_once(logging.WARNING, f"the lease can't be read or written: {error}")
            except Exception:  # noqa: BLE001 - a defect must not end the attempts: the deadline ends what they don't renew
                _LOG.exception("the lease could not be seen to")
            pause = self._timings.retry_s * (1 if self.leads() else 1 + random.uniform(0, _JITTER))  # noqa: S311

    def _apply(self, result: ElectionResult) -> None:
        self._heard.set()
        if result is ElectionResult.LOST:
            self._end(f"{self._elector.holder} holds the lease now")
        elif result is ElectionResult.STANDBY:
            self._log_once(logging.INFO, f"stands by: {self._elector.holder or 'another'} holds the lease")
        elif not self.leads():
            self._log_once(logging.INFO, f"holds the lease as {self._elector.holder}, and works")
            self._leads.set()
            self._run("lease-deadline", self._enforce_deadline)
            self._on_lead()
        else:
            self._last_logged = ""

    def _enforce_deadline(self) -> None:
        """However long a request for the lease takes, the deadline is kept."""
        while not self._stopped.wait(max(0.0, self._elector.left_s())):
            if not self._elector.holds():
                self._end(f"the lease has not been renewed for {self._timings.deadline_s:.3g} s")

    def _log_once(self, level: int, text: str) -> None:
        """Once, not with every attempt."""
        if text != self._last_logged:
            self._last_logged = text
            _LOG.log(level, "%s", text)


def _end_process(cause: str) -> None:
    """At once: workers may be anywhere, and whoever takes the lease must find this one gone."""
    _LOG.error("leadership is lost: %s; this operator ends, and stands by when it is started again", cause)
    os._exit(LOST)


def _micro_time() -> str:
    """By this machine's clock, for people: nothing is decided by it."""
    return local_time().strftime("%Y-%m-%dT%H:%M:%S.%fZ")
