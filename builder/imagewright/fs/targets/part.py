"""A part of a virtual root: some of its entries, with the directories above them.

No I/O.
"""

from __future__ import annotations

from collections.abc import Iterator

from imagewright.fs.targets.nodes import Directory, Node, resolve
from imagewright.fs.targets.virtual import VirtualRoot


class Part:
    """Entries of ``root``, none at first."""

    def __init__(self, root: VirtualRoot) -> None:
        self.top = root.top
        self._names: dict[Directory, set[bytes]] = {}

    def add(self, directory: Directory, name: bytes) -> None:
        """Add an entry, and the directories above it."""
        while True:
            names = self._names.get(directory)
            if names is not None:
                names.add(name)
                return
            self._names[directory] = {name}
            if directory.parent is None:
                return
            directory, name = directory.parent, directory.name

    def add_path(self, path: bytes) -> Node | None:
        """Add what a look at ``path`` finds: links and directories on the way, and the entry, which is returned.

        None if nothing is there. What a look at that path then finds in the part is what it finds in the root.

        Raises:
            NotVirtualError: only a disk can tell where a link leads.
        """
        try:
            return resolve(self.top, path, visit=self.add)[2]
        except OSError:
            return None

    def add_other_names(self) -> None:
        """Add all names of entries that have several: an entry of the part then has as many links as in the root."""
        several = {node for _, _, node in self.entries() if node.links > 1 and not isinstance(node, Directory)}
        if not several:
            return
        waiting = [self.top]
        while waiting:
            directory = waiting.pop()
            for name, node in directory.children.items():
                if isinstance(node, Directory):
                    waiting.append(node)
                elif node in several:
                    self.add(directory, name)

    def entries(self) -> Iterator[tuple[bytes, bytes, Node]]:
        """Path of the directory, name and node of each entry, in an order that is the same in every build.

        A directory comes before what is in it.
        """
        waiting = [(b"", self.top)]
        while waiting:
            path, directory = waiting.pop()
            for name in sorted(self._names.get(directory, ())):
                node = directory.children[name]
                yield path, name, node
                if isinstance(node, Directory):
                    waiting.append((path + b"/" + name if path else name, node))
