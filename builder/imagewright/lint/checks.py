"""The checks that need only the Dockerfile. ``plan`` has those that need values (undefined variables, ports).

No I/O. Messages are those of BuildKit, so that a search finds them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterator, Mapping

from imagewright.dockerfile.expand import ExpansionError, ExpansionOptions, expand
from imagewright.dockerfile.model import (
    Arg,
    Cmd,
    Dockerfile,
    DockerfileWarning,
    Entrypoint,
    Env,
    From,
    Healthcheck,
    Instruction,
    Label,
    Located,
    Maintainer,
    Onbuild,
    Shell,
    ShellForm,
    Workdir,
)
from imagewright.dockerfile.source import SourceText, nearest
from imagewright.dockerfile.words import split_name, split_white
from imagewright.errors import ImagewrightError, UsageError
from imagewright.oci.platform import Platform
from imagewright.plan.arguments import global_arguments
from imagewright.plan.options import PlanOptions
from imagewright.records import dataclass
from imagewright.reference import Reference

_RESERVED = ("context", "scratch")
_SECRET = re.compile(
    r"(?:_|^)(?:apikey|auth|credential|credentials|key|password|pword|passwd|secret|token)(?:_|$)", re.IGNORECASE
)
_NOT_SECRET = re.compile(r"(?:_|^)(?:public|file|version)(?:_|$)", re.IGNORECASE)
_TARGET_PLATFORM = re.compile(r"\$(?:TARGETPLATFORM|\{TARGETPLATFORM\})")


def check(dockerfile: Dockerfile, options: PlanOptions) -> Iterator[DockerfileWarning]:
    """All warnings, in no particular order."""
    expansion = ExpansionOptions(escape=dockerfile.directives.escape)
    subject = _Subject(dockerfile, SourceText(dockerfile.name, dockerfile.lines), options, expansion)
    for one in _CHECKS:
        yield from one(subject)


@dataclass(frozen=True, slots=True)
class _Subject:
    dockerfile: Dockerfile
    source: SourceText
    options: PlanOptions
    expansion: ExpansionOptions

    @property
    def instructions(self) -> Iterator[From | Instruction]:
        """The instructions of all stages, FROM included."""
        for stage in self.dockerfile.stages:
            yield stage.from_
            yield from stage.instructions

    def inheriting(self, kind: type[Instruction]) -> Container[int]:
        """The indices of stages whose base is a stage that has or inherits such an instruction."""
        found: set[int] = set()
        latest: dict[str, bool] = {}  # by the name of a stage: whether it has or inherits one
        for stage in self.dockerfile.stages:
            if latest.get(stage.from_.image.lower(), False):
                found.add(stage.index)
            if stage.name:
                has_own = any(isinstance(instruction, kind) for instruction in stage.instructions)
                latest[stage.name] = has_own or stage.index in found
        return found

    def warning(self, rule: str, message: str, at: Located, word: str = "") -> DockerfileWarning:
        return DockerfileWarning(rule, message, self.source.narrow(at.location, word))


def _written(instruction: Located) -> str:
    """The name of the instruction as written."""
    return split_name(instruction.source)[0]


def _casing(subject: _Subject) -> Iterator[DockerfileWarning]:
    names = [_written(instruction) for instruction in subject.instructions]
    lower = sum(name == name.lower() for name in names)
    upper = sum(name == name.upper() for name in names)
    majority, wanted = ("lowercase", str.lower) if lower > upper else ("uppercase", str.upper)
    for instruction in subject.instructions:
        name = _written(instruction)
        if name != wanted(name):
            message = f"Command '{name}' should match the case of the command majority ({majority})"
            yield subject.warning("ConsistentInstructionCasing", message, instruction, name)


def _stage_names(subject: _Subject) -> Iterator[DockerfileWarning]:
    seen: set[str] = set()
    for stage in subject.dockerfile.stages:
        from_ = stage.from_
        words = split_white(from_.source)
        if not stage.name:
            continue
        keyword, written = words[-2], words[-1]
        command = words[0]
        if written != written.lower():
            message = f"Stage name '{written}' should be lowercase"
            yield subject.warning("StageNameCasing", message, from_, written)
        for same in (str.lower, str.upper):
            if command == same(command) and keyword != same(keyword):
                message = f"'{keyword}' and '{command}' keywords' casing do not match"
                yield subject.warning("FromAsCasing", message, from_, keyword)
        if stage.name in _RESERVED:
            message = f'Stage name should not use the same name as reserved stage "{stage.name}"'
            yield subject.warning("ReservedStageName", message, from_, written)
        if stage.name in seen:
            message = f'Duplicate stage name "{stage.name}", stage names should be unique'
            yield subject.warning("DuplicateStageName", message, from_, written)
        seen.add(stage.name)


def _commands(subject: _Subject) -> Iterator[DockerfileWarning]:
    """CMD, ENTRYPOINT and HEALTHCHECK: exec form, and at most one of each."""
    inheriting = subject.inheriting(Shell)
    for stage in subject.dockerfile.stages:
        has_shell = stage.index in inheriting
        last: dict[type, Instruction] = {}
        for instruction in stage.instructions:
            if isinstance(instruction, Shell):
                has_shell = True
            if not isinstance(instruction, Cmd | Entrypoint | Healthcheck):
                continue
            name = _written(instruction)
            before = last.get(type(instruction))
            if before is not None:
                message = (
                    f"Multiple {name} instructions should not be used in the same stage because only the last one"
                    " will be used"
                )
                yield subject.warning("MultipleInstructionsDisallowed", message, before)
            last[type(instruction)] = instruction
            is_shell_form = isinstance(instruction, Cmd | Entrypoint) and isinstance(instruction.command, ShellForm)
            if is_shell_form and not has_shell:
                message = f"JSON arguments recommended for {name} to prevent unintended behavior related to OS signals"
                yield subject.warning("JSONArgsRecommended", message, instruction)


def _legacy_forms(subject: _Subject) -> Iterator[DockerfileWarning]:
    for instruction in subject.instructions:
        match instruction:
            case Maintainer():
                message = "Maintainer instruction is deprecated in favor of using label"
                yield subject.warning("MaintainerDeprecated", message, instruction)
            case Env(pairs=pairs) | Label(pairs=pairs):
                if any(pair.separator == " " for pair in pairs):
                    name = _written(instruction)
                    message = f'"{name} key=value" should be used instead of legacy "{name} key value" format'
                    yield subject.warning("LegacyKeyValueFormat", message, instruction)
            case _:
                pass


def _secrets(subject: _Subject) -> Iterator[DockerfileWarning]:
    for instruction in [*subject.dockerfile.global_args, *subject.instructions]:
        match instruction:
            case Arg(items=items):
                kind, names = "ARG", [item.name for item in items]
            case Env(pairs=pairs):
                kind, names = "ENV", [pair.key for pair in pairs]
            case _:
                continue
        for name in names:
            if _SECRET.search(name) and not _NOT_SECRET.search(name):
                message = f'Do not use ARG or ENV instructions for sensitive data ({kind} "{name}")'
                yield subject.warning("SecretsUsedInArgOrEnv", message, instruction, name)


def _workdirs(subject: _Subject) -> Iterator[DockerfileWarning]:
    """Only the first WORKDIR of a stage: those after it are relative to an absolute one."""
    inheriting = subject.inheriting(Workdir)
    for stage in subject.dockerfile.stages:
        first = next((instruction for instruction in stage.instructions if isinstance(instruction, Workdir)), None)
        if first is not None and stage.index not in inheriting and not first.path.startswith(("/", "$")):
            message = f'Relative workdir "{first.path}" can have unexpected results if the base image changes'
            yield subject.warning("WorkdirRelativePath", message, first, first.path)


def _platforms(subject: _Subject) -> Iterator[DockerfileWarning]:
    for stage in subject.dockerfile.stages:
        platform = stage.from_.platform
        if _TARGET_PLATFORM.fullmatch(platform):
            message = f"Setting platform to predefined {platform} in FROM is redundant as this is the default behavior"
            yield subject.warning("RedundantTargetPlatform", message, stage.from_, platform)
        elif platform and "$" not in platform:
            try:
                parsed = Platform.parse(platform)
            except UsageError:
                continue  # the planner reports it
            if parsed.os not in stage.name and parsed.architecture not in stage.name:
                message = f'FROM --platform flag should not use constant value "{platform}"'
                yield subject.warning("FromPlatformFlagConstDisallowed", message, stage.from_, platform)


def _base_names(subject: _Subject) -> Iterator[DockerfileWarning]:
    """Arguments in FROM must be declared, and have defaults that result in a valid name."""
    dockerfile = subject.dockerfile
    try:
        given = global_arguments(dockerfile, subject.options, subject.source, subject.expansion)
        without = subject.options.without_build_args()
        defaults = global_arguments(dockerfile, without, subject.source, subject.expansion)
    except ImagewrightError:
        return  # the planner reports it
    declared = {item.name for arg in dockerfile.global_args for item in arg.items} | set(given)
    for stage in dockerfile.stages:
        from_ = stage.from_
        for word in (from_.image, from_.platform):
            for name in _unset(subject, word, given):
                if name not in declared:
                    near = nearest(name, declared)
                    suggestion = f" (did you mean {near}?)" if near else ""
                    message = f"FROM argument '{name}' is not declared{suggestion}"
                    yield subject.warning("UndefinedArgInFrom", message, from_, word)
        if not _is_name(subject, from_.image, defaults):
            message = f"Default value for ARG {from_.image} results in empty or invalid base image name"
            yield subject.warning("InvalidDefaultArgInFrom", message, from_, from_.image)


def _unset(subject: _Subject, word: str, values: Mapping[str, str]) -> tuple[str, ...]:
    try:
        return expand(word, values, subject.expansion).unset
    except ExpansionError:
        return ()


def _is_name(subject: _Subject, word: str, values: Mapping[str, str]) -> bool:
    if "$" not in word:
        return True
    try:
        Reference.parse(expand(word, values, subject.expansion).text)
    except ExpansionError:
        return True
    except ImagewrightError:
        return False
    return True


def _descriptions(subject: _Subject) -> Iterator[DockerfileWarning]:
    """A comment directly above an ARG or a named stage."""
    dockerfile = subject.dockerfile
    for instruction in [*dockerfile.global_args, *subject.instructions]:
        match instruction:
            case Arg(items=items):
                kind, names = "ARG", [item.name for item in items]
            case From(name=name) if name:
                kind, names = "FROM", [name]
            case _:
                continue
        above = dockerfile.lines[instruction.location.line - 2].strip() if instruction.location.line > 1 else ""
        if not above.startswith("#") or _is_directive(above):
            continue
        first = above.lstrip("#").strip().partition(" ")[0]
        if first not in names:
            example = names[0] if len(names) == 1 else "<arg_key>"
            message = f"Comment for {kind} should follow the format: `# {example} <description>`"
            yield subject.warning("InvalidDefinitionDescription", message, instruction)


def _triggers(subject: _Subject) -> Iterator[DockerfileWarning]:
    for instruction in subject.instructions:
        if isinstance(instruction, Onbuild) and instruction.mistake:
            message = f"Builds on this image will fail at this trigger: {instruction.mistake}"
            yield subject.warning("OnbuildTrigger", message, instruction, instruction.trigger)


def _is_directive(comment: str) -> bool:
    return re.match(r"#\s*(?:syntax|escape|check)\s*=", comment, re.IGNORECASE) is not None


_CHECKS: tuple[Callable[[_Subject], Iterator[DockerfileWarning]], ...] = (
    _casing,
    _stage_names,
    _commands,
    _legacy_forms,
    _secrets,
    _workdirs,
    _platforms,
    _base_names,
    _descriptions,
    _triggers,
)
