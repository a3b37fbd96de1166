"""The state of a stage while its instructions are planned: variables, arguments, the image configuration so far.

No I/O.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from imagewright.dockerfile.expand import Expansion, ExpansionError, ExpansionOptions, expand
from imagewright.dockerfile.model import Command, DockerfileWarning, ExecForm, Instruction, Located
from imagewright.dockerfile.source import SourceText, nearest
from imagewright.dockerfile.substitutions import NO_SUBSTITUTIONS, Substitutions
from imagewright.errors import DockerfileError
from imagewright.plan import paths
from imagewright.plan.imageconfig import ConfigBuilder
from imagewright.plan.origins import Origin
from imagewright.plan.steps import StepText

_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)


@dataclass(frozen=True, slots=True)
class BuildScope:
    """The inputs that all stages of a build share."""

    source: SourceText
    escape: str
    build_args: Mapping[str, str]
    global_args: Mapping[str, str]
    proxies: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class PlannedInstruction:
    """An instruction to plan.

    ``origins`` maps each name after ``from=`` (COPY --from, RUN --mount) to its origin. ``onbuild``: it comes from a
    trigger of the base image.
    """

    instruction: Instruction
    origins: Mapping[str, Origin] = field(default_factory=dict)
    onbuild: bool = False


@dataclass(slots=True)
class StageScope:
    """``variables`` is the environment of expansion and commands: ARG and ENV together, the later one wins.

    ``arguments`` are the ARGs of the stage, in order, with their declared values. ``has_own_cmd``: the stage sets CMD,
    so ENTRYPOINT keeps it. ``substitutions`` are those of the current instruction, ``lasting_substitutions`` those of
    USER and WORKDIR, whose values later steps use too.
    """

    build: BuildScope
    image: ConfigBuilder
    variables: dict[str, str]
    arguments: dict[str, str]
    lasting_substitutions: Substitutions = NO_SUBSTITUTIONS
    substitutions: Substitutions = NO_SUBSTITUTIONS
    has_own_cmd: bool = False
    warnings: list[DockerfileWarning] = field(default_factory=list)

    @property
    def workdir(self) -> str:
        return paths.clean(self.image.workdir)

    def set_env(self, key: str, value: str) -> None:
        self.image.set_env(key, value)
        self.variables[key] = value

    def argv(self, command: Command) -> tuple[str, ...]:
        """The arguments to execute: SHELL comes before a command in shell form."""
        return command.argv if isinstance(command, ExecForm) else (*self.image.shell, command.line)

    def text(self, item: PlannedInstruction, created_by: str, note: str = "") -> StepText:
        """The texts of a step, once all words of its instruction are expanded. ``note`` is appended to the title."""
        instruction = item.instruction
        title = f"{'ONBUILD ' * item.onbuild}{instruction.shown}{note}"
        return StepText(
            title, created_by, instruction.location, item.onbuild, self.lasting_substitutions | self.substitutions
        )

    # --- expansion

    def expand(self, instruction: Located, word: str) -> str:
        """Expand a word of the instruction, with a warning for a variable without a value.

        Raises:
            DockerfileError: an invalid modifier, or ``${v:?…}`` without a value.
        """
        return self.expansion(instruction, word).text

    def expand_body(self, instruction: Located, body: str) -> str:
        """Expand the body of a heredoc, where quotes are ordinary characters."""
        options = ExpansionOptions(self.build.escape, quotes=False)
        try:
            return self.expansion(instruction, body, options).text
        except DockerfileError:
            for line in body.splitlines():
                self.expansion(instruction, line, options)  # to point at the invalid line
            raise

    def expansion(self, instruction: Located, word: str, options: ExpansionOptions | None = None) -> Expansion:
        """As ``expand``, with the result split into words, too."""
        try:
            expansion = expand(word, self.variables, options or ExpansionOptions(escape=self.build.escape))
        except ExpansionError as error:
            raise self.error(instruction, f"cannot expand {word[:100]}: {error}", word) from error
        self.substitutions |= expansion.substitutions
        for name in expansion.unset:
            self._warn_undefined(instruction, name)
        return expansion

    def _warn_undefined(self, instruction: Located, name: str) -> None:
        if name in self.arguments or not _NAME.fullmatch(name):
            return
        near = nearest(name, [*self.variables, *self.arguments])
        message = f"Usage of undefined variable '${name}'{f' (did you mean ${near}?)' if near else ''}"
        place = self.build.source.narrow(instruction.location, f"${name}")
        if place == instruction.location:
            place = self.build.source.narrow(instruction.location, f"${{{name}")
        self.warnings.append(DockerfileWarning("UndefinedVar", message, place))

    def warn(self, rule: str, message: str, instruction: Located, word: str) -> None:
        """Add a warning."""
        self.warnings.append(DockerfileWarning(rule, message, self.build.source.narrow(instruction.location, word)))

    def error(self, instruction: Located, message: str, word: str, hint: str = "") -> DockerfileError:
        """An error at ``word``."""
        return self.build.source.error(message, instruction.location, word=word, hint=hint)
