"""What servers say back: a login in any form that it was sent in is not shown, and what is no login stays."""

from __future__ import annotations

import base64
from urllib.parse import quote, quote_plus

import pytest

from imagewright.context.hiding import hidden

SECRET = "hunter2/with +?ß"


@pytest.mark.parametrize(
    "form",
    [
        SECRET,
        quote(SECRET),
        quote(SECRET, safe=""),
        quote(SECRET, safe="").lower(),
        quote_plus(SECRET),
    ],
)
def test_a_secret_is_not_shown(form: str) -> None:
    assert hidden(f"refused: {form}!", [SECRET]) == "refused: ***!"


@pytest.mark.parametrize("user", ["", "u", "us", "use", "user"])
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
def test_an_encoded_secret_is_not_shown(user: str, encode: object) -> None:
    assert callable(encode)
    sent = encode(f"{user}:{SECRET}:more".encode()).decode()
    shown = hidden(f"you sent {sent}", [SECRET])
    # Nothing that decodes to a part of it is left, at any of the places where a decoder could begin.
    rest = shown.removeprefix("you sent ").split("***")
    for piece in rest:
        for start in range(4):
            whole = piece[start:]
            decoded = base64.urlsafe_b64decode(whole[: len(whole) // 4 * 4] or "")
            assert b"hunter2" not in decoded
            assert b"nter2/w" not in decoded


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("GET https://a/b?sv=1&sig=abc%2Fdef&x=2", "GET https://a/b?sv=1&sig=***&x=2"),
        ("X-Amz-Signature=0123abcd'", "X-Amz-Signature=***'"),
        ("Authorization: Basic dTpwdTpwdTpw", "Authorization: Basic ***"),
        ("SharedKey account:0123456789+/=", "SharedKey ***"),
        ("a basic fault", "a basic fault"),
        ("the design=good", "the design=good"),
    ],
)
def test_signatures_are_not_shown(said: str, shown: str) -> None:
    assert hidden(said, []) == shown


def test_short_values_are_not_masked() -> None:
    assert hidden("no such user", ["no", ""]) == "no such user"
