"""A folder of tests/cases, read: what is built, with what, and what must come of it.

Reads the folder; no other I/O but that ``lay_out`` writes a build context. tests/cases/README.md describes the format.
"""

from __future__ import annotations

import os
import re
import shutil
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from cluster.images import catalogue
from peers.files import write_tree

from imagewright.dockerfile.ignore import IgnorePatterns
from imagewright.dockerfile.model import DockerfileWarning
from imagewright.dockerfile.parser import parse
from imagewright.errors import ImagewrightError
from imagewright.lint.run import lint, lint_options
from imagewright.oci.config import ImageConfig
from imagewright.oci.platform import Platform
from imagewright.plan.model import BuildPlan
from imagewright.plan.options import ConfigRequest, DirectoryContext, PlanOptions
from imagewright.plan.origins import ImageOrigin
from imagewright.plan.resolve import make_plan
from imagewright.plan.steps import RunStep
from imagewright.reference import Reference

CASES = Path(__file__).parent.parent / "cases"
KEYS = frozenset(
    """about target platform build_platform build_args labels images context secrets ssh build_contexts
    allow flags not_executed differs web git""".split()
)
# What $WEB and $GIT are in what is recorded: the servers of what ADD takes from elsewhere.
WEB, GIT = "http://web.example", "http://git.example"


def _catalogued() -> dict[str, Mapping[str, Any]]:
    """The configuration of each real base image by its familiar name."""
    return {f"{image.name}:{tag}": image.config for image in catalogue("1") for tag in image.tags}


_CATALOGUED = _catalogued()


@dataclass(frozen=True)
class Case:
    """One folder. ``table`` is its case.toml."""

    folder: Path

    @cached_property
    def table(self) -> dict[str, Any]:
        table = tomllib.loads((self.folder / "case.toml").read_text())
        unknown = set(table) - KEYS
        assert not unknown, f"{self.folder.name}/case.toml: unknown {', '.join(sorted(unknown))}"
        return table

    @property
    def dockerfile(self) -> bytes:
        return (self.folder / "Dockerfile").read_bytes()

    @property
    def platform(self) -> str:
        platform: str = self.table.get("platform", "linux/amd64")
        return platform

    def expected(self, name: str) -> str:
        """The content of a recorded file; empty when there is none."""
        path = self.folder / name
        return path.read_text() if path.exists() else ""

    @property
    def not_executed(self) -> str:
        """Why nothing is built of the case: empty when something is."""
        reason: str = self.table.get("not_executed", "")
        return reason

    @property
    def differs(self) -> list[str]:
        """What is not as BuildKit has it, on purpose: each with a reason."""
        return [f"{entry['what']}: {entry['because']}" for entry in self.table.get("differs", [])]

    @property
    def build_args(self) -> dict[str, str]:
        """Those of the table, and where the servers are."""
        places = {"WEB": WEB} if "web" in self.table else {}
        places |= {"GIT": GIT} if "git" in self.table else {}
        return {**places, **self.table.get("build_args", {})}

    def options(self) -> PlanOptions:
        return PlanOptions(
            target=self.table.get("target", ""),
            build_args=self.build_args,
            platform=Platform.parse(self.platform),
            build_platform=Platform.parse(self.table.get("build_platform", "linux/amd64")),
            labels=self.table.get("labels", {}),
            contexts={name: DirectoryContext() for name in self.table.get("build_contexts", {})},
            platform_asked="platform" in self.table,
        )

    def image(self, familiar: str) -> Mapping[str, Any]:
        """The configuration of a base image: as the case or the catalogue has it, else only a PATH."""
        given: dict[str, Any] = self.table.get("images", {})
        found: Mapping[str, Any] = given.get(familiar) or _CATALOGUED.get(familiar) or {"Env": ["PATH=/bin"]}
        return found

    def is_catalogued(self, familiar: str) -> bool:
        return familiar in _CATALOGUED and familiar not in self.table.get("images", {})

    def plan(self) -> tuple[BuildPlan, tuple[ConfigRequest, ...]]:
        """The plan, and the images that it asked for.

        Raises:
            ImagewrightError: the case is one of an error.
        """
        asked: list[ConfigRequest] = []

        def config_of(request: ConfigRequest) -> ImageConfig:
            assert request not in asked, "the same image was asked for twice"
            asked.append(request)
            return ImageConfig.scratch(request.platform).with_config(self.image(request.reference.familiar()))

        return make_plan(parse(self.dockerfile, "Dockerfile"), self.options(), config_of), tuple(asked)

    def lint(self) -> tuple[DockerfileWarning, ...]:
        """The warnings, as a build shows them."""
        dockerfile = parse(self.dockerfile, "Dockerfile")
        ignore = self.table.get("context", {}).get(".dockerignore", "")
        options = self.options()
        applied = lint_options(dockerfile, options)
        return lint(dockerfile, options, applied, self.plan()[0], IgnorePatterns.parse(ignore))

    def images(self) -> set[tuple[Reference, Platform]]:
        """Every image that a build of the case pulls; what its FROM lines name where it can't be planned."""
        try:
            plan, asked = self.plan()
        except ImagewrightError:
            return set(self._named_bases())
        steps = [step for stage in plan.stages for step in stage.steps]
        using = [*steps, *(mount for step in steps if isinstance(step, RunStep) for mount in step.mounts)]
        origins = [getattr(user, "origin", None) for user in using]
        pulled = [(origin.reference, origin.platform) for origin in origins if isinstance(origin, ImageOrigin)]
        return {*pulled, *((need.reference, need.platform) for need in asked)}

    def _named_bases(self) -> Iterator[tuple[Reference, Platform]]:
        for name in re.findall(rb"^FROM +(?:--\S+ +)*([\w./:-]+)", self.dockerfile, re.MULTILINE | re.IGNORECASE):
            with suppress(ImagewrightError):
                yield Reference.parse(name.decode()), Platform.parse(self.platform)

    def lay_out(self, target: Path) -> Path:
        """Write the build context, with the Dockerfile in it. Gives the context's folder."""
        context = target / "context"
        context.mkdir(parents=True)
        committed = self.folder / "context"
        if committed.is_dir():
            shutil.copytree(committed, context, symlinks=True, dirs_exist_ok=True)
            _settle_modes(context)
        (context / "Dockerfile").write_bytes(self.dockerfile)
        (context / "Dockerfile").chmod(0o644)
        write_tree(context, self.table.get("context", {}))
        for name, files in self.table.get("build_contexts", {}).items():
            (target / "contexts" / name).mkdir(parents=True)
            write_tree(target / "contexts" / name, files)
        for kind in ("secrets", "ssh"):
            for name, content in self.table.get(kind, {}).items():
                (target / kind).mkdir(exist_ok=True)
                (target / kind / name).write_text(content)
                (target / kind / name).chmod(0o600)
        return context


def _settle_modes(root: Path) -> None:
    """git keeps one bit of a mode, and the umask of a checkout has a say in the rest."""
    for folder, names, files in os.walk(root):
        for name in [*names, *files]:
            path = Path(folder, name)
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)


def all_cases() -> list[Case]:
    return [Case(path.parent) for path in sorted(CASES.glob("*/case.toml"))]
