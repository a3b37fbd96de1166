"""An entry of a virtual root before something overwrites it.

Reads the data of what was copied, and layers, where nothing else tells the two apart.
"""

from __future__ import annotations

import stat
from dataclasses import replace

from imagewright.fs.rootfs.entrystate import Description
from imagewright.fs.targets.contents import LayerContents, exact_time, same_data
from imagewright.fs.targets.nodes import Directory, Node, RoundedTime, described


class VirtualState:
    """As ``model.State``."""

    def __init__(self, node: Node, limit_ns: int | None, layers: LayerContents) -> None:
        self._layers = layers
        self._before, self._data = described(node), node.data
        self._limit_ns = limit_ns

    def equals(self, directory: Directory, path: bytes) -> bool:
        """
        Raises:
            NotVirtualError, ImagewrightError: as ``same_data``.
        """
        node = directory.children.get(path.rpartition(b"/")[2])
        if node is None or not self._is_described(described(node)):
            return False
        return not (stat.S_ISREG(node.mode) and node.size) or same_data(self._data, node.data, self._layers)

    def _is_described(self, now: Description) -> bool:
        if not any(isinstance(each.mtime_ns, RoundedTime) for each in (self._before, now)):
            return self._before.equals(now, self._limit_ns)
        # Its layer is only read for its time where nothing else tells the two apart.
        if not replace(self._before, mtime_ns=now.mtime_ns).equals(now, self._limit_ns):
            return False
        if stat.S_ISDIR(now.mode):
            return True
        self._before = replace(self._before, mtime_ns=exact_time(self._before.mtime_ns, self._layers))
        now = replace(now, mtime_ns=exact_time(now.mtime_ns, self._layers))
        return self._before.equals(now, self._limit_ns)

    def close(self) -> None:
        """Nothing is open."""
