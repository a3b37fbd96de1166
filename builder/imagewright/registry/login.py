"""A login with a registry.

No I/O. Made by everything that knows one; ``registry.auth`` makes headers of it.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Login:
    """``identity_token`` is an OAuth2 refresh token that stands for a password; then ``username`` may be empty."""

    username: str = ""
    password: str = ""
    identity_token: str = ""
    registry_token: str = ""

    @property
    def flaw(self) -> str:
        """What is wrong with it, whoever it is sent to: control characters (RFC 7617, 2), ``""`` where nothing is."""
        parts = {
            "user name": self.username,
            "password": self.password,
            "identity token": self.identity_token,
            "registry token": self.registry_token,
        }
        for name, text in parts.items():
            if text.endswith("\n"):
                return f"the {name} ends with a newline"
            if any(unicodedata.category(character) == "Cc" for character in text):
                return f"the {name} holds a control character"
        return ""

    def __repr__(self) -> str:
        return f"Login({self.username!r}, …)"  # a password never reaches a log by accident
