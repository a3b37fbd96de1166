"""Find a Go new enough for go/go.mod; make one through the module proxy where there is only an older one.

Runs ``go``; writes below the cache.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from cluster.places import SOURCE, ClusterError, cache_root
from cluster.progress import say, step

Version = tuple[int, ...]


MODULE = SOURCE / "go"


def required_version(module: Path = MODULE) -> str:
    """The version that the ``go`` line of a module's go.mod demands."""
    found = re.search(r"^go (\S+)$", (module / "go.mod").read_text(), re.MULTILINE)
    if found is None:
        raise ClusterError("go/go.mod has no go line")
    return found[1]


def as_numbers(version: str) -> Version:
    return tuple(int(part) for part in re.findall(r"\d+", version))


def version_of(go: Path) -> Version:
    """What ``go`` itself is, not what it would fetch; () when it doesn't run."""
    try:
        environment = {**os.environ, "GOTOOLCHAIN": "local"}
        done = subprocess.run(
            [str(go), "env", "GOVERSION"], check=False, capture_output=True, text=True, env=environment, cwd="/"
        )
    except OSError:
        return ()
    return as_numbers(done.stdout) if done.returncode == 0 else ()


def candidates() -> Iterator[Path]:
    if on_path := shutil.which("go"):
        yield Path(on_path)
    yield Path("/usr/local/go/bin/go")
    yield from sorted(Path("/usr/lib").glob("go-*/bin/go"), reverse=True)
    yield from sorted(cache_root().glob("go/*/bin/go"), reverse=True)


def find_go(module: Path = MODULE) -> Path:
    """A Go that can build a module: the cluster's, where none is named.

    Raises:
        ClusterError: there is none at all, or the module proxy doesn't serve the toolchain.
    """
    needed = required_version(module)
    older: Path | None = None
    for go in candidates():
        version = version_of(go)
        if version >= as_numbers(needed):
            return go
        older = older or (go if version else None)
    if older is None:
        raise ClusterError(f"Go {needed} or newer is needed and there is no go at all: run scripts/setup as root")
    return fetch(needed, older)


def fetch(version: str, older: Path) -> Path:
    """Make the toolchain of ``version`` with an ``older`` go (1.17 or newer does).

    Go publishes its toolchains as a module; the older go checks it against the checksum database as it does any other.
    """
    target = cache_root() / "go" / version
    module = f"golang.org/toolchain@v0.0.1-go{version}.linux-{architecture(older)}"
    say(f"{older} is older than Go {version}")
    with step(f"Fetching Go {version} through the Go module proxy", "a minute or so"):
        command = [str(older), "mod", "download", "-json", module]
        environment = {**os.environ, "GOFLAGS": "", "GO111MODULE": "on", "GOTOOLCHAIN": "local"}
        done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment, cwd="/")
        if done.returncode != 0:
            raise ClusterError(f"Go {version} could not be fetched: {(done.stderr or done.stdout).strip()}")
        partial = target.with_name(f"{version}.partial.{os.getpid()}")
        shutil.copytree(json.loads(done.stdout)["Dir"], partial, symlinks=True)
        make_usable(partial)
        if target.exists():
            shutil.rmtree(target)
        partial.rename(target)
    return target / "bin" / "go"


def make_usable(goroot: Path) -> None:
    """A module holds no executable bits and is read-only: give back both."""
    for folder, _, names in os.walk(goroot):
        os.chmod(folder, 0o755)
        for name in names:
            path = Path(folder, name)
            program = path.is_relative_to(goroot / "bin") or path.is_relative_to(goroot / "pkg" / "tool")
            path.chmod(path.stat().st_mode | stat.S_IWUSR | (0o111 if program else 0))


def architecture(go: Path) -> str:
    return subprocess.run([go, "env", "GOARCH"], capture_output=True, text=True, check=True, cwd="/").stdout.strip()


def goroot(go: Path) -> Path:
    environment = {**os.environ, "GOTOOLCHAIN": "local"}
    done = subprocess.run([go, "env", "GOROOT"], capture_output=True, text=True, check=True, env=environment, cwd="/")
    return Path(done.stdout.strip())


def main() -> int:
    """Say which Go there is, fetching it where only an older one is: ``python -m cluster.toolchain``."""
    try:
        print(find_go())
    except ClusterError as problem:
        print(problem)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
