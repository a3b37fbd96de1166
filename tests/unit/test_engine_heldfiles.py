"""What a build that replaces ``/`` still reads of the engine's container. Each test in a process, which it changes for
good.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest
from cluster.certificates import Authority

MODULES = """
import os, shutil, sys
sys.path.insert(0, "lib")
import first
from imagewright.engine.source.heldfiles import hold_modules
from imagewright.errors import ImagewrightError
hold_modules()
{change}
try:
    import package.module
    import second
except ImagewrightError as error:
    print(error.reason.value, error.message)
"""
CERTIFICATES = """
import os, ssl
from imagewright.engine.source.heldfiles import hold_certificates
hold_certificates()
os.rename("other.pem", "trusted.pem")
print(ssl.create_default_context().cert_store_stats()["x509"], os.path.isdir(os.environ["SSL_CERT_DIR"]))
"""
MOUNTED = """
import os, sys
from imagewright.engine.source.heldfiles import Mounted
mounted = Mounted()
print(*(mounted(path) for path in sys.argv[1:]))
"""


CACHED = "cached = f'lib/package/__pycache__/module.{sys.implementation.cache_tag}.pyc'"


def run(folder: Path, text: str, *arguments: str, **variables: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", text, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "", **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def make_library(folder: Path) -> None:
    for name in ("first", "second", "package/__init__", "package/module"):
        path = folder / "lib" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"print({name!r})\n")
    (folder / "old").mkdir()
    (folder / "old/second.py").write_text("print('hostile')\n")
    (folder / "old/module.py").write_text("print('hostile')\n")
    (folder / "old/__init__.py").write_text("print('hostile')\n")


def loaded(folder: Path, change: str, *, cache: bool) -> tuple[Path, list[str]]:
    """What is printed after a change of a new library, and where that is.

    Other tests change directories above it: then again.
    """
    for number in itertools.count():
        library = folder / str(number)
        make_library(library)
        if cache:
            (library / "lib/package/__pycache__").mkdir()
        said = run(library, MODULES.format(change=change)).splitlines()
        if not any(f'changed "{above}"' in said[-1] for above in library.parents):
            break
    return library, said


def test_a_module_that_is_as_it_was_is_loaded(tmp_path: Path) -> None:
    library, said = loaded(tmp_path, "", cache=False)
    assert said == ["first", "package/__init__", "package/module", "second"]
    assert not (library / "lib/package/__pycache__").exists(), "and nothing is written, which would be a change"


@pytest.mark.parametrize(
    "change",
    [
        "open('lib/second.py', 'a').write('pass')",
        "os.replace('old/second.py', 'lib/second.py')",
        "os.rename('lib/package', 'lib/was'); os.rename('old', 'lib/package')",
        "os.rename('lib', 'was'); os.mkdir('lib'); os.rename('old', 'lib/package')",
        f"{CACHED}; os.makedirs(os.path.dirname(cached), exist_ok=True); os.rename('old/module.py', cached)",
        f"{CACHED}; os.replace('old/module.py', cached)",
    ],
    ids=["written", "replaced", "its directory replaced", "all replaced", "compiled", "compiled again"],
)
def test_a_module_that_was_changed_is_not_loaded(tmp_path: Path, change: str) -> None:
    library, said = loaded(tmp_path, f"import time; time.sleep(0.02); {change}", cache="makedirs" not in change)
    assert "hostile" not in said
    assert said[-1].startswith("NotIsolated cannot load the engine's module")
    assert f'the build changed "{library}/lib' in said[-1]


def test_certificates_are_those_of_before(tmp_path: Path) -> None:
    """Also in the directory of hashed names, where OpenSSL looks at every connection."""
    Authority(tmp_path, "trusted").certificate.rename(tmp_path / "trusted.pem")
    (tmp_path / "other.pem").write_text("")
    (tmp_path / "hashed").mkdir()
    variables = {"SSL_CERT_FILE": "trusted.pem", "SSL_CERT_DIR": "hashed"}
    assert run(tmp_path, CERTIFICATES, **variables) == "1 False"


def test_no_certificates_are_left_to_the_connection(tmp_path: Path) -> None:
    (tmp_path / "other.pem").touch()
    assert run(tmp_path, CERTIFICATES, SSL_CERT_FILE="missing", SSL_CERT_DIR=".") == "0 True"


@pytest.mark.root
def test_only_what_is_on_a_mount_is_mounted(tmp_path: Path) -> None:
    """Neither a FIFO, which a reader would wait for, nor what a link leads to outside of it."""
    (tmp_path / "volume").mkdir()
    script = f"""set -e
mount -t tmpfs tmpfs {tmp_path}/volume
echo >{tmp_path}/outside; cd {tmp_path}/volume; echo >file; mkfifo fifo; ln -s file link; ln -s {tmp_path}/outside out
exec "$@"
"""
    names = ["", "file", "link", "fifo", "out", "missing"]
    paths = [*(str(tmp_path / "volume" / name) for name in names), str(tmp_path / "outside"), str(tmp_path)]
    command = ["unshare", "--mount", "--propagation=private", "sh", "-c", script, "sh", sys.executable, "-c", MOUNTED]
    done = subprocess.run([*command, *paths], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["True", "True", "True", "False", "False", "False", "False", "False"], done.stderr


MOVED = """
import os, subprocess, sys
from imagewright.engine.source.heldfiles import Mounted
mounted = Mounted()
print(mounted("bound/file"), mounted("beside"), mounted("volume/file"))
subprocess.run(["umount", "volume"], check=True)
open("volume/file", "w").close()
print(mounted("bound/file"), mounted("volume/file"))
"""


@pytest.mark.root
def test_neither_the_place_nor_the_file_system_alone_makes_a_mount(tmp_path: Path) -> None:
    """What is where a mount was until a RUN unmounted it, and what is on the same file system, but not below it."""
    for name in ("volume", "bound", "source"):
        (tmp_path / name).mkdir()
    for name in ("beside", "source/file"):
        (tmp_path / name).touch()
    script = 'mount -t tmpfs tmpfs volume && touch volume/file && mount --bind source bound && exec "$@"'
    command = ["unshare", "--mount", "--propagation=private", "sh", "-c", script, "sh", sys.executable, "-c", MOVED]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout.split("\n")[:2] == ["True False True", "True False"], done.stderr
