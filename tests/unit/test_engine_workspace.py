"""The folder a build works in."""

from __future__ import annotations

import os
import stat
from contextlib import closing
from pathlib import Path

from imagewright.engine.workspace import Workspace


def test_setgid_of_a_volume_is_not_handed_down(tmp_path: Path) -> None:
    """The kubelet sets it on volumes of a Pod with an fsGroup; a checkout would copy it into the image."""
    tmp_path.chmod(0o2777)
    with closing(Workspace(str(tmp_path))) as workspace:
        os.mkdir(os.path.join(workspace.source, "checkout"))
        for path in (workspace.path, *Path(workspace.path).rglob("*")):
            assert not os.stat(path).st_mode & stat.S_ISGID, path
