"""What scripts/release passes on to the engine."""

from __future__ import annotations

import pytest
from releasing.__main__ import main
from releasing.artifacts import Release

HOST, MIRROR = "registry.example.com", "mirror.example.com"


@pytest.mark.parametrize(
    ("given", "flags"),
    [
        ([], []),
        ([f"--mirror={MIRROR}"], [f"--registry-mirror={MIRROR}"]),
        (["--insecure"], [f"--insecure-registry={HOST}"]),
        (
            [f"--mirror={MIRROR}", "--insecure"],
            [f"--registry-mirror={MIRROR}", f"--insecure-registry={MIRROR}", f"--insecure-registry={HOST}"],
        ),
    ],
    ids=["neither", "mirror", "insecure", "both"],
)
def test_plain_http_is_allowed_only_by_insecure(
    monkeypatch: pytest.MonkeyPatch, given: list[str], flags: list[str]
) -> None:
    made: list[Release] = []
    monkeypatch.setattr("releasing.__main__.check", lambda version: None)
    monkeypatch.setattr("releasing.__main__.notes", lambda version: "notes")
    monkeypatch.setattr("releasing.__main__.make", lambda release, text: made.append(release))
    monkeypatch.setattr("releasing.__main__.show", lambda dist: None)
    assert main(["0.1.0", f"--registry={HOST}/imagewright", "--dry-run", *given]) == 0
    assert list(made[0].registry.flags) == flags
