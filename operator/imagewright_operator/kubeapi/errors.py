"""The one error of a request to the API server, and which of its kind may pass.

No I/O.
"""

from __future__ import annotations

from typing import Any

from imagewright_operator.kubeapi.documents import parse

_TRANSIENT = (0, 429, 500, 502, 503, 504)
_MAX_MESSAGE = 500

CONFLICT, GONE, NOT_FOUND, FORBIDDEN = 409, 410, 404, 403


class ApiError(Exception):
    """A failed request: an answer other than success, an ERROR event of a watch, or no answer.

    Args:
        status: HTTP's, 0 without an answer.
        message: the API server's.
        cause: the reason of the first of ``Status.details.causes``.
        retry_after_s: what the API server asks to wait, 0 where it doesn't.
    """

    def __init__(self, status: int, message: str, *, cause: str = "", retry_after_s: float = 0.0) -> None:
        super().__init__(f"{status}: {message}" if status else message)
        self.status = status
        self.message = message
        self.cause = cause
        self.retry_after_s = retry_after_s

    @property
    def is_transient(self) -> bool:
        """Whether the same request may succeed later."""
        return self.status in _TRANSIENT

    @classmethod
    def of_answer(cls, status: int, body: str, retry_after: str = "") -> ApiError:
        """From an answer's body, a ``Status`` or any text, and its header Retry-After."""
        try:
            pause = float(retry_after or 0)
        except ValueError:
            pause = 0.0
        try:
            answer = parse(body)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            answer = {"message": body[:_MAX_MESSAGE].strip()}
        return cls.of_status(answer, status, pause)

    @classmethod
    def of_status(cls, answer: dict[str, Any], status: int = 0, retry_after_s: float = 0.0) -> ApiError:
        """From a ``Status`` object."""
        details = answer.get("details")
        causes = details.get("causes") if isinstance(details, dict) else None
        cause = next((one.get("reason") or "" for one in causes or () if isinstance(one, dict)), "")
        status = status or int(answer.get("code") or 0)
        message = str(answer.get("message") or f"HTTP status {status}")
        return cls(status, message, cause=cause, retry_after_s=retry_after_s)
