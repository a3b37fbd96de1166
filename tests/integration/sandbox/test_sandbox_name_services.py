"""In root mode a build writes the engine's /etc/nsswitch.conf, which must not load libraries into the engine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.root

LIBRARY = """
#include <unistd.h>
__attribute__((constructor)) static void loaded(void) { write(1, "loaded\\n", 7); }
"""
PROGRAM = """
import pwd, socket, sys
from imagewright.sandbox.kernel import linux
if sys.argv[1] == "pinned":
    linux.pin_name_services()
for look_up in (lambda: socket.getaddrinfo("host.invalid", 80), lambda: pwd.getpwuid(54321)):
    try:
        look_up()
    except (OSError, KeyError):
        pass
print("looked up")
"""


@pytest.mark.parametrize(("how", "loads"), [("pinned", False), ("as it is", True)])
def test_libraries_of_nsswitch_conf_are_not_loaded(tmp_path: Path, how: str, loads: bool) -> None:
    (tmp_path / "hostile.c").write_text(LIBRARY)
    subprocess.run(
        ["gcc", "-shared", "-fPIC", "-o", tmp_path / "libnss_hostile.so.2", tmp_path / "hostile.c"], check=True
    )
    (tmp_path / "nsswitch.conf").write_text("hosts: hostile files dns\npasswd: hostile files\n")
    place = f'mount --bind {tmp_path}/nsswitch.conf /etc/nsswitch.conf && exec "$@"'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", place, "sh", sys.executable, "-c", PROGRAM, how],
        env={"PATH": os.environ["PATH"], "HOME": "/", "LD_LIBRARY_PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ("loaded\n" in done.stdout) is loads, "without the precaution it is loaded: the test sees it"
    assert done.stdout.endswith("looked up\n")
