"""A login with a registry.

No I/O. Made by everything that knows one; ``registry.auth`` makes headers of it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Login:
    """``identity_token`` is an OAuth2 refresh token that stands for a password; then ``username`` may be empty."""

    username: str = ""
    password: str = ""
    identity_token: str = ""
    registry_token: str = ""

    def __repr__(self) -> str:
        return f"Login({self.username!r}, …)"  # a password never reaches a log by accident
