"""A registry with all base images, and both builders: a case in, two results out.

Starts a registry and, where asked for, buildkitd.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cluster import rootfs
from cluster.binaries import binaries
from cluster.machine import this_machine
from cluster.push import Image, Layer, Registry
from cluster.toolchain import find_go
from containers.restricted import give_away
from containers.restricted import restricted as as_restricted
from peers.buildah import Buildah
from peers.buildkit import Build, BuildKit, Outcome
from peers.case import Case
from peers.elsewhere import Elsewhere
from peers.flatten import Layout, describe, files_of
from peers.programs import programs
from servers.basecontent import registry_with_base_images
from servers.forking import Forking, forking

_CLOCK_S = 1.0  # file systems' clocks tick coarsely, and behind time.time()

# The mount points of its own sandbox.
_LEFT_BY_BUILDAH = frozenset(
    "/dev /etc/hostname /etc/hosts /etc/resolv.conf /proc /run /run/.containerenv /run/secrets /sys".split()
)


class Builder(Protocol):
    def build(self, build: Build) -> Outcome: ...


@dataclass(frozen=True, slots=True)
class Station:
    """Where cases are built. One case at a time: each pushes the base images that it describes."""

    folder: Path
    registry: str
    hosts: tuple[str, ...]
    busybox: Layer
    elsewhere: Elsewhere
    engine: Forking
    buildkit: BuildKit | None = None

    def ours(self, case: Case, *, restricted: bool = False) -> str:
        """What this project's engine makes of a case, as root or as a user without any rights."""
        with self._laid_out(case) as scratch:
            places = self.elsewhere.serve(case)
            layout = scratch / "layout"
            words = ["build", f"--context={scratch / 'context'}", "--no-push"]
            words += [f"--registry-endpoint={host}={self.registry}" for host in self.hosts]
            words += [f"--oci-layout-path={layout}", f"--work-dir={scratch / 'work'}", *flags_of(case, scratch)]
            words += [f"--build-arg={name}={value}" for name, value in places.items()]
            environment = {**os.environ, "HOME": str(scratch)}
            since = time.time() - _CLOCK_S
            if restricted:
                give_away(scratch)
                command = as_restricted([sys.executable, "-m", "imagewright", *words], scratch / "interpreter")
                done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
            else:
                done = self.engine.run(words, environment)
            assert "Traceback" not in done.stderr, done.stderr
            if done.returncode:
                return self.elsewhere.named(case, _without(str(scratch), _last_words(done.stderr)))
            return self.elsewhere.named(case, describe(Layout(layout), since))

    def theirs(self, case: Case) -> str:
        """What BuildKit makes of it."""
        assert self.buildkit is not None, "this station has no BuildKit"
        return self._built_by(self.buildkit, case, self.buildkit.since)

    def files_of_buildah(self, case: Case) -> str:
        """The files that buildah makes of it: its configuration is another project's."""
        text = self._built_by(Buildah(self.folder / "buildah", self.registry, self.hosts), case, time.time())
        kept = [line for line in files_of(text).splitlines(keepends=True) if line.split()[0] not in _LEFT_BY_BUILDAH]
        return text if text.startswith("error: ") else "".join(kept)

    def _built_by(self, builder: Builder, case: Case, since: float) -> str:
        with self._laid_out(case) as scratch:
            table = case.table
            build = Build(
                context=scratch / "context",
                target=table.get("target", ""),
                platform=table.get("platform", ""),
                build_args=table.get("build_args", {}) | self.elsewhere.serve(case),
                labels=table.get("labels", {}),
                secrets={name: scratch / "secrets" / name for name in table.get("secrets", {})},
                ssh={name: scratch / "ssh" / name for name in table.get("ssh", {})},
                build_contexts={name: scratch / "contexts" / name for name in table.get("build_contexts", {})},
                allow=tuple(table.get("allow", ())),
            )
            outcome = builder.build(build)
            if outcome.error:
                return self.elsewhere.named(case, _without(str(scratch), outcome.error)) + "\n"
            text = describe(Layout(outcome.layout), since - _CLOCK_S)
            shutil.rmtree(outcome.layout)
            return self.elsewhere.named(case, text)

    @contextmanager
    def _laid_out(self, case: Case) -> Iterator[Path]:
        self._publish(case)
        scratch = Path(tempfile.mkdtemp(prefix="case-", dir=self.folder))
        case.lay_out(scratch)
        try:
            yield scratch
        finally:
            shutil.rmtree(scratch)

    def _publish(self, case: Case) -> None:
        """Push the images that the case describes: BusyBox, with their configuration."""
        for reference, platform in case.images():
            if reference.tag and not case.is_catalogued(reference.familiar()):
                image = Image((self.busybox,), case.image(reference.familiar()), platform.architecture)
                Registry(self.registry).push(image, reference.repository, [reference.tag])


@contextmanager
def station(folder: Path, cases: Iterable[Case], *, with_buildkit: bool) -> Iterator[Station]:
    """Start the servers; ``cases`` say which registries' names must lead to the one that there is."""
    hosts = sorted({"docker.io", *(reference.registry for case in cases for reference, _ in case.images())})
    with ExitStack() as stack:
        server = stack.enter_context(registry_with_base_images(folder / "registry"))
        buildkit = None
        if with_buildkit:
            runc = binaries() / "runc"
            buildkit = stack.enter_context(BuildKit(programs(), runc, folder / "buildkit", server.host, hosts))
        busybox = rootfs.layer(rootfs.busybox, this_machine(find_go()), {})
        elsewhere = stack.enter_context(Elsewhere(folder / "elsewhere"))
        stack.callback(shutil.rmtree, folder / "buildah", ignore_errors=True)
        engine = stack.enter_context(forking())
        yield Station(folder, server.host, tuple(hosts), busybox, elsewhere, engine, buildkit)


def flags_of(case: Case, scratch: Path) -> list[str]:
    """What a case is built with, where ``scratch`` is the folder that it was laid out in."""
    table = case.table
    flags = [f"--build-arg={name}={value}" for name, value in table.get("build_args", {}).items()]
    flags += [f"--label={name}={value}" for name, value in table.get("labels", {}).items()]
    flags += [f"--target={table['target']}"] if "target" in table else []
    flags += [f"--custom-platform={table['platform']}"] if "platform" in table else []
    flags += [f"--secret=id={name},src={scratch / 'secrets' / name}" for name in table.get("secrets", {})]
    flags += [f"--ssh={name}={scratch / 'ssh' / name}" for name in table.get("ssh", {})]
    flags += [f"--build-context={name}={scratch / 'contexts' / name}" for name in table.get("build_contexts", {})]
    return [*flags, *table.get("flags", ())]


def _last_words(log: str) -> str:
    """From the line that begins with "error:" on."""
    found = re.search(r"^error: .*", log, re.MULTILINE | re.DOTALL)
    return found[0] if found else log[-2000:]


def _without(folder: str, text: str) -> str:
    return text.replace(folder, "FOLDER")
