"""Which addresses a source may have: no login in them, which the API server, the status or a log would show.

No I/O. The regular expressions are RE2's and Python's: for the definition's rules and for the operator's validation.
"""

from __future__ import annotations

import re

_WEB = "^https?://[^ ]+$"
_GIT = "^(https?|git|ssh)://[^ ]+$"
_SCP = "^[-A-Za-z0-9_.]+@[-A-Za-z0-9.]+:[^ ]+$"
_LOGIN = "^[a-z]+://[^/@]*@"
_GIT_LOGIN = "^(https?|git)://[^/@]*@|^[a-z]+://[^/@]*:[^/@]*@"
# Not the parameters of an address that a bucket's owner has signed: it is valid for one object and some minutes.
_PARAMETER = (
    "(?i)[?&#](access|auth|bearer|client|id|job|oauth|private|refresh)?[-_]?"
    "(api[-_]?key|auth|credentials?|key|pass|passwd|password|pwd|secret|token)="
)
_SAS = "(?i)[?&]sig="

# What to say, one of what an address must match, and what it must not.
Rule = tuple[str, list[str], list[str]]
_INSTEAD = "put it into a Secret and name that in secretRef"
_ADDRESS: Rule = ("has {} that is not a URL: write https://host/path", [_WEB], [])
_NO_LOGIN: Rule = ("has {} with a login: " + _INSTEAD, [], [_LOGIN])
_NO_PARAMETER: Rule = ("has {} with a login among its parameters: " + _INSTEAD, [], [_PARAMETER])
RULES: dict[str, tuple[Rule, ...]] = {
    "git": (
        (
            "has {} that is not the address of a git repository: write https://host/team/repository.git or "
            "git@host:team/repository.git",
            [_GIT, _SCP],
            [],
        ),
        ("has {} with a login: put username and password into a Secret and name it in secretRef", [], [_GIT_LOGIN]),
        (
            "has {} with '?' or '#': write the revision into ref, and a login into a Secret named in secretRef",
            [],
            ["[?#]"],
        ),
    ),
    "http": (_ADDRESS, _NO_LOGIN, _NO_PARAMETER),
    "s3": (_ADDRESS, _NO_LOGIN, _NO_PARAMETER),
    "azureBlob": (
        _ADDRESS,
        _NO_LOGIN,
        _NO_PARAMETER,
        ("has {} with a signature: put it into a Secret as sasToken and name that in secretRef", [], [_SAS]),
    ),
}


def problem(kind: str, url: str) -> str:
    """What is wrong with an address, "" if nothing is: to follow the field's name. It doesn't show the address."""
    for message, one_of, none_of in RULES[kind]:
        found = [re.search(pattern, url) for pattern in one_of]
        if (found and not any(found)) or any(re.search(pattern, url) for pattern in none_of):
            return message.format("an address")
    return ""


def expressions(kind: str, field: str) -> list[tuple[str, str]]:
    """The same as CEL rules of the object that has the field: the API server prints the value that a rule is for."""
    made = []
    for message, one_of, none_of in RULES[kind]:
        given = [f"self.{field}.matches('{pattern}')" for pattern in one_of]
        given += [f"!self.{field}.matches('{pattern}')" for pattern in none_of]
        expression = " || ".join(given)
        made.append(
            (
                f"!has(self.{field}) || {expression}",
                message.format(f"a {field}" if field != "endpoint" else "an endpoint"),
            )
        )
    return made
