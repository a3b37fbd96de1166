"""Addresses as messages may show them: without the login that was written into them.

No I/O.
"""

from __future__ import annotations

import re

_HOST_AND_PORT = re.compile(r"(?:\[[^\]]*\]|[^:]*)(?::[0-9]*)?")
# Up to the next address: one whose host has a dot would pass for a path of the first. An OCI layout has no host.
_IN_TEXT = re.compile(r"(?:\bssh:|(?<=:)(?<!oci-layout:))//(?:(?![a-z][a-z0-9+.-]{0,20}://)\S)+")
# user:password@host, as of the name of an image, whose digest follows an "@" as well.
_BARE = re.compile(r"(?:^|(?<=[\s\"'=,;]))[^\s\"'=,;/@:]{1,100}:[^\s\"'/@]{1,300}@(?!sha(?:256|512):)")
_DIGEST = re.compile(r"@sha(?:256|512):[0-9a-f]{64,128}\b")
_KEEPS_USER = ("ssh", "git+ssh")


def shown_url(url: str) -> str:
    """An address for messages: without its login, and without its query, which may be a signature."""
    return without_login(url).partition("?")[0]


def without_login(url: str) -> str:
    """An address for messages, however wrong it is: without user and password; ssh's user remains.

    The login of a wrong address ends with the last ``@``: passwords with ``/`` belong percent-encoded. What can be read
    in both ways, as in ``//user:12/34@host/`` and ``//host:5000/package@1``, is taken for one if its host has no dot.
    """
    scheme, slashes, rest = url.partition("//")
    if digest := _DIGEST.search(rest):  # of an image, not a host
        return without_login(url[: -len(rest)] + rest[: digest.start()]) + rest[digest.start() :]
    authority, slash, path = rest.partition("/")
    if "@" not in authority and not (_HOST_AND_PORT.fullmatch(authority) and _is_path(authority, path)):
        authority, slash, path = rest, "", ""
    userinfo, at, host = authority.rpartition("@")
    user = userinfo.partition(":")[0] if scheme.rstrip(":").lower() in _KEEPS_USER else ""
    return scheme + slashes + user + at * bool(user) + host + slash + path


def _is_path(authority: str, path: str) -> bool:
    """Whether an ``@`` in a path doesn't end a login with a slash: a name begins with it, or the host is surely one."""
    before, at, _ = path.rpartition("@")
    return not at or before == "" or before.endswith("/") or "." in authority or authority.startswith("[")


def without_logins(text: str) -> str:
    """Text without the logins of the addresses in it; what begins with ``//`` is a path, which may have an ``@``."""
    if "@" not in text:
        return text
    return _BARE.sub("", _IN_TEXT.sub(lambda found: without_login(found[0]), text))
