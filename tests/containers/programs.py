"""Programs and configuration of an image that steal what the engine gives to its own programs.

Compiles a library. They are data: ``tests/hostile/base-programs.json``.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from containers.container import REPOSITORY

_PROGRAMS: dict[str, str] = json.loads((REPOSITORY / "tests/hostile/base-programs.json").read_text())
# Loaded by every program with a loader, once /etc/ld.so.preload names it; and a service of /etc/nsswitch.conf.
_LIBRARY = """
#include <fcntl.h>
#include <unistd.h>
__attribute__((constructor)) static void loaded(void)
{
    int fd = open("/kaniko/stolen", O_WRONLY | O_CREAT | O_APPEND, 0600);
    write(fd, "hostile.so\\n", 11);
    close(fd);
}
"""


def hostile_files(folder: Path) -> None:
    """Write the files of the image, a library among them. Whatever of it is executed writes to ``/kaniko/stolen``."""
    for name, text in _PROGRAMS.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    (folder / "hostile.c").write_text(_LIBRARY)
    subprocess.run(["gcc", "-w", "-shared", "-fPIC", "-o", folder / "hostile.so", folder / "hostile.c"], check=True)
