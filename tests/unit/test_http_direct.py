"""Requests that go to this machine use no proxy, and change nothing that other threads see."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from imagewright.http.session import Tls, new_session


def test_no_proxy_is_not_said_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread that reads the environment meanwhile would fail, or would use no proxy, either."""
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", "http://proxy.example:3128")
    changes: list[Any] = []
    watching = True

    def hook(event: str, arguments: Any) -> None:
        if watching and event in ("os.putenv", "os.unsetenv"):
            changes.append(arguments)

    sys.addaudithook(hook)  # for as long as this process lives
    session = new_session("test", Tls())
    settings = session.merge_environment_settings("http://127.0.0.1:5000/", {"no_proxy": "*"}, True, True, None)
    proxied = session.merge_environment_settings("http://registry.example/", {}, True, True, None)
    watching = False
    assert changes == []
    assert settings["proxies"] == {}
    assert proxied["proxies"]["http"] == "http://proxy.example:3128"
