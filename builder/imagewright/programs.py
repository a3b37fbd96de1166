"""The programs that the engine starts, by absolute path: what is found once is what runs.

I/O: looks for files.
"""

from __future__ import annotations

import os
import shutil


def find_program(name: str, path: str | None) -> str | None:
    """The absolute path of a program in one of the folders of ``path``, as PATH has them; None if it is in none.

    Only absolute folders count. To a shell an empty or relative one is the current folder, which may be a build's.
    """
    folders = [folder for folder in (path or "").split(os.pathsep) if os.path.isabs(folder)]
    return shutil.which(name, path=os.pathsep.join(folders)) if folders and os.path.basename(name) == name else None
