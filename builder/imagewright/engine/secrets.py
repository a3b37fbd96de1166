"""The secrets that RUN --mount=type=secret names: read once, before the first command runs, and kept in memory.

Reads files and the environment it is given. Called by ``engine.build``; used by ``engine.mounts``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from imagewright.contract import MAX_SECRET_BYTES, SecretSource
from imagewright.errors import ImagewrightError, Reason


def read_secrets(sources: Iterable[SecretSource], environment: Mapping[str, str]) -> Mapping[str, bytes]:
    """The secrets' values by id. One whose variable isn't set is not there.

    Raises:
        ImagewrightError: reason ``SecretNotFound`` for a file that can't be read; too large a secret.
    """
    values: dict[str, bytes] = {}
    for source in sources:
        if source.env:
            text = environment.get(source.env)
            if text is not None:
                values[source.id] = text.encode("utf-8", "surrogateescape")
        else:
            values[source.id] = _read(source)
        if len(values.get(source.id, b"")) > MAX_SECRET_BYTES:
            raise ImagewrightError(
                f"the secret {source.id} has more than {MAX_SECRET_BYTES} bytes",
                reason=Reason.USAGE_INVALID,
                hint="A secret is a token or a key; other files belong into the build context.",
            )
    return values


def _read(source: SecretSource) -> bytes:
    try:
        with open(source.file, "rb") as file:
            return file.read(MAX_SECRET_BYTES + 1)
    except OSError as error:
        raise ImagewrightError(
            f"the secret {source.id} can't be read from {source.file}: {error.strerror}",
            reason=Reason.SECRET_NOT_FOUND,
            hint="--secret id=NAME,src=FILE names a file that the build can read.",
        ) from error
