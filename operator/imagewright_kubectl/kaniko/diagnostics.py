"""The errors and notes of a conversion, collected so that a user can fix all errors at once.

No I/O.
"""

from __future__ import annotations

from imagewright.errors import UnsupportedError


class Diagnostics:
    """Errors, each with the name that ``--drop`` ignores it by, and notes.

    Args:
        dropped: names that the user gave to ``--drop``.
        replaced: names that flags of ``create`` take the place of.
    """

    def __init__(self, dropped: frozenset[str], replaced: frozenset[str] = frozenset()) -> None:
        self._ignored = dropped | replaced
        self._errors: list[str] = []
        self._droppable: dict[str, None] = {}
        self.notes: list[str] = []
        self.unused_drops = set(dropped)

    def is_dropped(self, name: str) -> bool:
        """Whether the user left this out."""
        self.unused_drops.discard(name)
        return name in self._ignored

    def error(self, name: str, message: str) -> None:
        """``name`` can't be converted; ignored where the user drops it."""
        if not self.is_dropped(name):
            self._droppable[name] = None
            self._errors.append(f"  {message}")

    def missing(self, name: str, message: str) -> None:
        """As ``error``, of a field that an ImageBuild must have: the hint doesn't suggest to drop it."""
        if not self.is_dropped(name):
            self._errors.append(f"  {message}")

    def note(self, message: str) -> None:
        """Something that the user should know of a successful conversion."""
        self.notes.append(message)

    def raise_errors(self, subject: str) -> None:
        """``subject`` is what is converted.

        Raises:
            UnsupportedError: there are errors; it has all of them.
        """
        if not self._errors:
            return
        count = "1 error" if len(self._errors) == 1 else f"{len(self._errors)} errors"
        drops = " ".join(f"--drop {name}" for name in self._droppable)
        hint = f"To convert it without them, add {drops}." if drops else ""
        raise UnsupportedError(f"cannot convert {subject} to an ImageBuild: {count}", excerpt=self._errors, hint=hint)
