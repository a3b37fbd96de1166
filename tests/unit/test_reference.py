"""References: the grammar, Docker Hub's defaults, and what a person is told when one is wrong."""

import pytest

from imagewright.errors import ImagewrightError, Reason
from imagewright.reference import Reference

HEX = "a" * 64


@pytest.mark.parametrize(
    ("text", "canonical", "familiar"),
    [
        ("alpine", "docker.io/library/alpine:latest", "alpine:latest"),
        ("user/app:1.0.0", "docker.io/user/app:1.0.0", "user/app:1.0.0"),
        ("index.docker.io/user/app", "docker.io/user/app:latest", "user/app:latest"),
        ("docker.io/alpine:3", "docker.io/library/alpine:3", "alpine:3"),
        ("localhost/a", "localhost/a:latest", "localhost/a:latest"),
        ("localhost:5000/a/b:x", "localhost:5000/a/b:x", "localhost:5000/a/b:x"),
        ("10.0.0.1:5000/a", "10.0.0.1:5000/a:latest", "10.0.0.1:5000/a:latest"),
        (f"r.example/a@sha256:{HEX}", f"r.example/a@sha256:{HEX}", f"r.example/a@sha256:{HEX}"),
        (f"r.example/a:t@sha256:{HEX}", f"r.example/a:t@sha256:{HEX}", f"r.example/a:t@sha256:{HEX}"),
        ("[::1]:5000/a", "[::1]:5000/a:latest", "[::1]:5000/a:latest"),
    ],
)
def test_reference_is_read(text: str, canonical: str, familiar: str) -> None:
    reference = Reference.parse(text)
    assert str(reference) == canonical
    assert reference.familiar() == familiar
    assert Reference.parse(str(reference)) == reference


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty"),
        ("a b", "space"),
        ("App", 'as in "app"'),
        ("app:" + "x" * 129, "1 to 128"),
        ("app:-x", "1 to 128"),
        ("r.example//a", "joined by"),
        ("a/" * 130 + "a", "longer than 255"),
        ("-bad.example/a", "host name"),
    ],
)
def test_bad_reference_says_what_to_write(text: str, says: str) -> None:
    with pytest.raises(ImagewrightError, match=says) as caught:
        Reference.parse(text)
    assert caught.value.reason is Reason.REFERENCE_INVALID
    assert caught.value.hint


def test_a_bad_reference_is_shown_bounded_and_without_control_characters() -> None:
    with pytest.raises(ImagewrightError) as caught:
        Reference.parse("\x1b[2J\u00e4" + "x" * 300)
    shown = "\\x1b[2J\u00e4" + "x" * 295
    assert caught.value.message.startswith(f'invalid image reference "{shown}": ')


def test_bad_digest_has_its_own_reason() -> None:
    with pytest.raises(ImagewrightError) as caught:
        Reference.parse("app@sha256:123")
    assert caught.value.reason is Reason.DIGEST_INVALID
