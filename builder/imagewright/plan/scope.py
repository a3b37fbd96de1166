"""What a stage is between two of its instructions: variables, arguments, the image's configuration so far.

No I/O. Made by ``plan.stage``, changed by ``plan.metadata``, read by ``plan.run`` and ``plan.copying``.
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
    """What all stages of a build share."""

    source: SourceText
    escape: str
    build_args: Mapping[str, str]
    global_args: Mapping[str, str]
    proxies: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class PlannedInstruction:
    """An instruction that will be executed.

    ``origins`` says what each name after ``from=`` means (COPY --from, RUN --mount); ``onbuild`` that a trigger of the
    base brought it.
    """

    instruction: Instruction
    origins: Mapping[str, Origin] = field(default_factory=dict)
    onbuild: bool = False


@dataclass(slots=True)
class StageScope:
    """``variables`` is what expansion and commands see: ARG and ENV in one list, so that the later of the two wins.

    ``arguments`` are the ARGs of the stage, in order, with their values as declared. ``cmd_is_own``: CMD was given in
    this stage, so ENTRYPOINT leaves it. ``substitutions`` is what became of variables in the instruction that is planned,
    ``lasting_substitutions`` in USER and WORKDIR before it, whose values later steps are made with too.
    """

    build: BuildScope
    image: ConfigBuilder
    variables: dict[str, str]
    arguments: dict[str, str]
    lasting_substitutions: Substitutions = NO_SUBSTITUTIONS
    substitutions: Substitutions = NO_SUBSTITUTIONS
    cmd_is_own: bool = False
    warnings: list[DockerfileWarning] = field(default_factory=list)

    @property
    def workdir(self) -> str:
        return paths.clean(self.image.workdir)

    def set_env(self, key: str, value: str) -> None:
        self.image.set_env(key, value)
        self.variables[key] = value

    def argv(self, command: Command) -> tuple[str, ...]:
        """What is executed: the shell form through SHELL."""
        return command.argv if isinstance(command, ExecForm) else (*self.image.shell, command.line)

    def text(self, item: PlannedInstruction, created_by: str, note: str = "") -> StepText:
        """How a step is shown and recorded, once all words of its instruction are expanded. ``note`` follows what is shown."""
        instruction = item.instruction
        title = f"{'ONBUILD ' * item.onbuild}{instruction.shown}{note}"
        return StepText(
            title, created_by, instruction.location, item.onbuild, self.lasting_substitutions | self.substitutions
        )

    # --- expansion

    def expand(self, instruction: Located, word: str) -> str:
        """A word of the instruction with its variables; one that has no value is warned of.

        Raises:
            DockerfileError: for a modifier that can't be read, or ``${v:?…}`` without a value.
        """
        return self.expansion(instruction, word).text

    def expand_body(self, instruction: Located, body: str) -> str:
        """The body of a heredoc: quotes and what they would protect are text like any other."""
        options = ExpansionOptions(self.build.escape, quotes=False)
        try:
            return self.expansion(instruction, body, options).text
        except DockerfileError:
            for line in body.splitlines():
                self.expansion(instruction, line, options)  # to point at the line that is wrong
            raise

    def expansion(self, instruction: Located, word: str, options: ExpansionOptions | None = None) -> Expansion:
        """As ``expand``, with the words that come of it (EXPOSE)."""
        try:
            expansion = expand(word, self.variables, options or ExpansionOptions(escape=self.build.escape))
        except ExpansionError as error:
            raise self.error(instruction, f"can't expand {word[:100]}: {error}", word) from error
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
        """Note something legal that is probably a mistake."""
        self.warnings.append(DockerfileWarning(rule, message, self.build.source.narrow(instruction.location, word)))

    def error(self, instruction: Located, message: str, word: str, hint: str = "") -> DockerfileError:
        """An error whose caret is under ``word``."""
        return self.build.source.error(message, instruction.location, word=word, hint=hint)
