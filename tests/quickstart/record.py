"""The record of the tools by which the quickstart has started clusters, until these are removed: a file of names."""

from __future__ import annotations

from pathlib import Path

from cluster.places import cache_root


def recorded() -> list[str]:
    """The latest last."""
    return _file().read_text().split() if _file().is_file() else []


def record(tool: str) -> None:
    """Note that this one is in use, as the latest."""
    _file().parent.mkdir(parents=True, exist_ok=True)
    _write([*(other for other in recorded() if other != tool), tool])


def forget(tool: str) -> None:
    _write([other for other in recorded() if other != tool])


def _write(tools: list[str]) -> None:
    _file().write_text("".join(f"{tool}\n" for tool in tools))


def _file() -> Path:
    return cache_root() / "run" / "quickstart-local" / "tool"
