"""What stands in the way of a conversion, gathered: a person mends all of it at once.

No I/O. Called by the modules beside this one.
"""

from __future__ import annotations

from imagewright.errors import UnsupportedError


class Problems:
    """Each with the name that ``--drop`` takes it out by."""

    def __init__(self, dropped: frozenset[str], replaced: frozenset[str] = frozenset()) -> None:
        self._dropped = dropped | replaced
        self._found: list[str] = []
        self._droppable: dict[str, None] = {}
        self.notes: list[str] = []
        self.unused = set(dropped)

    def is_dropped(self, name: str) -> bool:
        """Whether the user has said to leave this out."""
        self.unused.discard(name)
        return name in self._dropped

    def add(self, name: str, message: str) -> None:
        """``name`` can't be converted, unless it is dropped."""
        if not self.is_dropped(name):
            self._droppable[name] = None
            self._found.append(f"  {message}")

    def must(self, message: str, name: str) -> None:
        """What an ImageBuild can't do without: no hint that it may be dropped, but ``create`` may be given the field itself."""
        if not self.is_dropped(name):
            self._found.append(f"  {message}")

    def note(self, text: str) -> None:
        """What a person should know of a conversion that works."""
        self.notes.append(text)

    def check(self) -> None:
        """
        Raises:
            UnsupportedError: all that was found.
        """
        if not self._found:
            return
        drops = " ".join(f"--drop {name}" for name in self._droppable)
        hint = f"What the build can do without is left out by {drops}" if drops else ""
        things = "one thing" if len(self._found) == 1 else f"{len(self._found)} things"
        raise UnsupportedError(f"{things} can't be converted to an ImageBuild", excerpt=self._found, hint=hint)
