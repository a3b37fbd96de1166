"""The API server's time, which is what times in objects are compared with.

No I/O. The kubelet and the API server write these times: an operator whose own clock is an hour ahead would end every
build for having taken an hour.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

_LOG = logging.getLogger(__name__)
_ALLOWED = timedelta(seconds=2)  # Date has whole seconds, and a response takes some time
_WORTH_A_LINE = timedelta(seconds=30)


def local_time() -> datetime:
    """The time of this machine's clock."""
    return datetime.now(UTC)


class ServerClock:
    """Thread-safe. Returns this machine's time until a response has corrected it."""

    def __init__(self, local: Callable[[], datetime] | None = None) -> None:
        self._local = local or local_time
        self._lock = threading.Lock()
        self._ahead = timedelta()
        self._warned = False

    def heard(self, date: str) -> None:
        """Correct the clock by the ``Date`` of a response that has just arrived (RFC 9110, section 6.6.1), if valid."""
        try:
            server = parsedate_to_datetime(date).astimezone(UTC)
        except (TypeError, ValueError):
            return
        ahead = self._local() - server
        with self._lock:
            if abs(ahead - self._ahead) > _ALLOWED:  # else it would jump with the delay of every response
                self._ahead = ahead if abs(ahead) > _ALLOWED else timedelta()
            news, self._warned = abs(ahead) > _WORTH_A_LINE and not self._warned, abs(ahead) > _WORTH_A_LINE
        if news:
            seconds = round(abs(ahead).total_seconds())
            way = "ahead of" if ahead > timedelta() else "behind"
            _LOG.warning("the local clock is %d s %s the API server's; using the API server's time", seconds, way)

    def now(self) -> datetime:
        """The server's time, UTC, to about a second."""
        with self._lock:
            return self._local() - self._ahead
