"""The state of a stage while its instructions are planned: variables, arguments, the image configuration so far.

No I/O.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import field, replace

from imagewright.dockerfile.expand import Expansion, ExpansionError, ExpansionOptions, expand
from imagewright.dockerfile.model import Command, DockerfileWarning, ExecForm, Instruction, Located
from imagewright.dockerfile.source import SourceText, nearest
from imagewright.dockerfile.substitutions import NO_SUBSTITUTIONS, Substitutions
from imagewright.errors import DockerfileError
from imagewright.plan import paths
from imagewright.plan.imageconfig import ConfigBuilder
from imagewright.plan.origins import Origin
from imagewright.plan.steps import StepText
from imagewright.records import dataclass

_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
PER_VALUE = 64  # what a value counts for where it is not copied
_MOST_EXPLAINED = 100  # undefined variables whose place in their instruction is searched, with a similar name


@dataclass(frozen=True, slots=True)
class BuildScope:
    """What all stages of a build share: inputs, what variables may amount to, the undefined ones that were reported."""

    source: SourceText
    expansion: ExpansionOptions
    build_args: Mapping[str, str]
    global_args: Mapping[str, str]
    proxies: Mapping[str, str]
    undefined: list[str] = field(default_factory=list)


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
    so ENTRYPOINT keeps it. ``substituted`` has the substitutions of the current instruction, ``lasting_substitutions``
    are those of USER and WORKDIR, whose values later steps use too.
    """

    build: BuildScope
    image: ConfigBuilder
    variables: dict[str, str]
    arguments: dict[str, str]
    lasting_substitutions: Substitutions = NO_SUBSTITUTIONS
    substituted: dict[tuple[str, str], None] = field(default_factory=dict)
    has_own_cmd: bool = False
    warnings: list[DockerfileWarning] = field(default_factory=list)

    @property
    def substitutions(self) -> Substitutions:
        """Those of the current instruction."""
        return Substitutions(tuple(self.substituted))

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
        substitutions = self.lasting_substitutions | self.substitutions
        self.spend(instruction, len(created_by) + PER_VALUE * len(substitutions.pairs))
        return StepText(title, created_by, instruction.location, item.onbuild, substitutions)

    def environment(self, instruction: Located) -> tuple[tuple[str, str], ...]:
        """The environment of a command.

        Raises:
            DockerfileError: reason ``LimitExceeded``.
        """
        variables = {**self.variables, **self.build.proxies}
        self.spend(instruction, PER_VALUE * len(variables))
        return tuple(variables.items())

    def spend(self, instruction: Located, characters: int) -> None:
        """Count what a step repeats of the values of variables: many steps with many of them are a lot.

        Raises:
            DockerfileError: reason ``LimitExceeded``.
        """
        try:
            self.build.expansion.allowance.spend(characters)
        except ExpansionError as error:
            raise self.build.source.error(
                str(error), instruction.location, hint=error.hint, reason=error.reason
            ) from None

    # --- expansion

    def expand(self, instruction: Located, word: str) -> str:
        """Expand a word of the instruction, with a warning for a variable without a value.

        Raises:
            DockerfileError: an invalid modifier, or ``${v:?…}`` without a value.
        """
        return self.expansion(instruction, word).text

    def expand_body(self, instruction: Located, body: str) -> str:
        """Expand the body of a heredoc, where quotes are ordinary characters."""
        options = replace(self.build.expansion, quotes=False)
        try:
            return self.expansion(instruction, body, options).text
        except DockerfileError:
            for line in body.splitlines():
                self.expansion(instruction, line, options)  # to point at the invalid line
            raise

    def expansion(self, instruction: Located, word: str, options: ExpansionOptions | None = None) -> Expansion:
        """As ``expand``, with the result split into words, too."""
        try:
            expansion = expand(word, self.variables, options or self.build.expansion)
        except ExpansionError as error:
            raise self.build.source.cannot_expand(word[:100], error, instruction.location, word=word) from error
        self.substituted |= dict.fromkeys(expansion.substitutions.pairs)
        for name in expansion.unset:
            self._warn_undefined(instruction, name)
        return expansion

    def _warn_undefined(self, instruction: Located, name: str) -> None:
        if name in self.arguments or not _NAME.fullmatch(name):
            return
        near, place = "", instruction.location
        if len(self.build.undefined) < _MOST_EXPLAINED:
            near = nearest(name, [*self.variables, *self.arguments])
            place = self.build.source.narrow(instruction.location, f"${name}")
            if place == instruction.location:
                place = self.build.source.narrow(instruction.location, f"${{{name}")
        self.build.undefined.append(name)
        message = f"Usage of undefined variable '${name}'{f' (did you mean ${near}?)' if near else ''}"
        self.warnings.append(DockerfileWarning("UndefinedVar", message, place))

    def warn(self, rule: str, message: str, instruction: Located, word: str) -> None:
        """Add a warning."""
        self.warnings.append(DockerfileWarning(rule, message, self.build.source.narrow(instruction.location, word)))

    def error(self, instruction: Located, message: str, word: str, hint: str = "") -> DockerfileError:
        """An error at ``word``."""
        return self.build.source.error(message, instruction.location, word=word, hint=hint)
