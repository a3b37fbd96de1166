"""Makes a BuildPlan from a Dockerfile and options: which stages are needed, on which bases, in which order.

No I/O of its own: a callback returns the configurations of base images.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable

from imagewright.dockerfile.expand import Expansion, ExpansionError, ExpansionOptions, expand
from imagewright.dockerfile.model import Arg, Copy, Dockerfile, DockerfileWarning, Instruction, Onbuild, Run, Stage
from imagewright.dockerfile.parser import MAX_INSTRUCTIONS, parse_trigger
from imagewright.dockerfile.source import SourceText, did_you_mean, nearest
from imagewright.errors import ImagewrightError, Location, Reason, UsageError
from imagewright.oci.config import ImageConfig
from imagewright.oci.platform import Platform
from imagewright.plan.arguments import global_arguments, may_be_undeclared, proxy_environment
from imagewright.plan.model import BuildPlan, StagePlan
from imagewright.plan.options import ConfigRequest, DirectoryContext, ImageContext, NamedContext, PlanOptions
from imagewright.plan.origins import (
    Base,
    ContextBase,
    ContextOrigin,
    ImageBase,
    ImageOrigin,
    Origin,
    ScratchBase,
    StageBase,
    StageOrigin,
)
from imagewright.plan.scope import BuildScope, PlannedInstruction
from imagewright.plan.stage import PlannedStage, plan_stage
from imagewright.records import dataclass
from imagewright.reference import Reference

_MOST_HINTS = 100  # that compare a name with those of all stages


def make_plan(
    dockerfile: Dockerfile, options: PlanOptions, config_of: Callable[[ConfigRequest], ImageConfig]
) -> BuildPlan:
    """Plan a build. ``config_of`` is called once for each base image and platform that the target needs.

    Raises:
        DockerfileError: with the location in the Dockerfile.
        UsageError: the target is not a stage.
        UnsupportedError: an instruction or flag that this version does not support.
    """
    resolver = _Resolver(dockerfile, options)
    target = resolver.target()
    needed: dict[int, _NeededStage] = {}
    configs: dict[tuple[Reference, Platform], ImageConfig] = {}
    waiting = [target]
    while waiting:
        index = waiting.pop()
        if index in needed:
            continue
        base = resolver.bases[index]
        if isinstance(base.kind, ImageBase):
            key = (base.kind.reference, base.kind.platform)
            if key not in configs:
                location = dockerfile.stages[index].from_.location
                configs[key] = config_of(ConfigRequest(*key, location, base.hint))
        stage = resolver.needed_stage(index, configs)
        needed[index] = stage
        waiting.extend(stage.needs)
    return _assemble(resolver, needed, target)


@dataclass(frozen=True, slots=True)
class _Base:
    """The base of a stage, its platform, and a hint for the error if the image does not exist."""

    kind: Base
    platform: Platform
    hint: str = ""


@dataclass(frozen=True, slots=True)
class _NeededStage:
    """A stage of the plan: the configuration of its base (None for a stage) and its instructions, triggers first."""

    config: ImageConfig | None
    instructions: tuple[PlannedInstruction, ...]
    needs: tuple[int, ...]


class _Resolver:
    """Resolves the names in a Dockerfile to images, contexts and stages."""

    def __init__(self, dockerfile: Dockerfile, options: PlanOptions) -> None:
        self.dockerfile = dockerfile
        self.options = options
        self.source = SourceText(dockerfile.name, dockerfile.lines)
        self.expansion = ExpansionOptions(escape=dockerfile.directives.escape)
        self.global_args = global_arguments(dockerfile, options, self.source, self.expansion)
        self._indices: dict[str, list[int]] = {}  # of the stages of a name, in order
        for stage in dockerfile.stages:
            if stage.name:
                self._indices.setdefault(stage.name, []).append(stage.index)
        self._hints: dict[tuple[str, int], str] = {}
        self._planned = 0
        self.bases: list[_Base] = []
        for stage in dockerfile.stages:
            self.bases.append(self._base(stage))

    def target(self) -> int:
        """The index of the stage to build."""
        wanted = self.options.target
        stages = self.dockerfile.stages
        if not wanted:
            return len(stages) - 1
        named = [stage.index for stage in stages if stage.name and stage.name == wanted.lower()]
        if named:
            return named[-1]
        if (number := _stage_number(wanted)) is not None and number < len(stages):
            return number
        names = [stage.name for stage in stages if stage.name]
        listed = (
            f"Use one of {', '.join(names)}." if names else f"Use a number below {len(stages)}: no stage has a name."
        )
        hint = did_you_mean(wanted, names, listed)
        raise UsageError(f'target stage "{wanted[:100]}" not found in {self.dockerfile.name}', hint=hint)

    def needed_stage(self, index: int, configs: dict[tuple[Reference, Platform], ImageConfig]) -> _NeededStage:
        """A stage with the triggers of its base."""
        stage = self.dockerfile.stages[index]
        base = self.bases[index]
        instructions = () if stage.name in self.options.contexts else stage.instructions
        config: ImageConfig | None
        match base.kind:
            case ImageBase(reference, platform):
                config = configs[reference, platform]
                triggers = [str(trigger) for trigger in config.config.get("OnBuild") or []]
            case StageBase(parent):
                config = None
                replaced = self.dockerfile.stages[parent].name in self.options.contexts
                parents = () if replaced else self.dockerfile.stages[parent].instructions
                triggers = [i.trigger for i in parents if isinstance(i, Onbuild)]
            case ScratchBase() | ContextBase():
                config, triggers = _scratch(base.platform), []
        self._count(stage, len(triggers) + len(instructions))
        parsed = [(parse_trigger(trigger, self.source, stage.from_.location), True) for trigger in triggers]
        written = [(instruction, False) for instruction in instructions]
        planned = tuple(
            PlannedInstruction(instruction, self._origins(instruction, index), onbuild)
            for instruction, onbuild in [*parsed, *written]
        )
        origins = [origin for item in planned for origin in item.origins.values()]
        needs = [origin.stage for origin in origins if isinstance(origin, StageOrigin)]
        if isinstance(base.kind, StageBase):
            needs.append(base.kind.stage)
        return _NeededStage(config, planned, tuple(needs))

    def _count(self, stage: Stage, instructions: int) -> None:
        """Each stage executes the triggers of its base again: together they are limited as if they were written."""
        self._planned += instructions
        if self._planned > MAX_INSTRUCTIONS:
            raise self.source.error(
                f"more than {MAX_INSTRUCTIONS} instructions, ONBUILD triggers of base images included",
                stage.from_.location,
                hint="Use a base image with fewer triggers, or fewer stages of it.",
                reason=Reason.LIMIT_EXCEEDED,
            )

    def _base(self, stage: Stage) -> _Base:
        if stage.name in self.options.contexts:  # replaces the whole stage
            return _context_base(self.options.contexts[stage.name], stage.name, self.options.platform)
        from_ = stage.from_
        name = self._expand(from_.image, from_.location, "FROM").text
        platform = self.options.platform
        if from_.platform:
            expansion = self._expand(from_.platform, from_.location, "FROM --platform")
            try:
                platform = Platform.parse(expansion.text)
            except UsageError as error:
                expansion.substitutions.restore(error)
                raise self.source.error(error.message, from_.location, word=from_.platform, hint=error.hint) from error
        if name == "scratch":
            # An empty image has no platform of its own: it is that of the target, whatever --platform says.
            return _Base(ScratchBase(), self.options.platform)
        parent = self._last_before(name, stage.index)
        if parent is not None:
            return _Base(StageBase(parent), self.bases[parent].platform)
        if context := self._context(name):
            return _context_base(self.options.contexts[context], context, platform)
        reference = self._reference(name, from_.image, from_.location, stage.index)
        named_before = any(indices[0] < stage.index for indices in self._indices.values())
        hint = self._image_hint(name, stage.index, reference) if named_before else ""
        return _Base(ImageBase(reference, platform), platform, hint)

    def _origins(self, instruction: Instruction, index: int) -> dict[str, Origin]:
        """The origins that the names after ``from=`` refer to in the stage ``index``."""
        names: list[tuple[str, str]] = []  # each after the flag that has it
        match instruction:
            case Copy(from_=name):
                names = [("COPY --from", name)]
            case Run(mounts=mounts):
                names = [("--mount from", mount.from_) for mount in mounts]
            case _:
                pass
        return {name: self._origin(f"{flag}={name[:100]}", name, instruction, index) for flag, name in names if name}

    def _origin(self, what: str, name: str, instruction: Instruction, index: int) -> Origin:
        """An earlier stage by number or name, a context or an image. ``what`` is the name of the flag in errors."""
        location = instruction.location
        if "$" in name:
            message = f"invalid {what}: variables are not expanded here"
            hint = f"Add a stage 'FROM {name} AS name' with a global ARG, and use from=name."
            raise self.source.error(message, location, word=name, hint=hint)
        stages = self.dockerfile.stages
        if (number := _stage_number(name)) is not None:
            if number < index:
                return StageOrigin(number)
            why = "it does not come before this one" if number < len(stages) else "no such stage"
            raise self.source.error(f"invalid stage in {what}: {why}", location, word=name)
        earlier = self._last_before(name.lower(), index)
        if earlier is not None:
            return StageOrigin(earlier)
        if named := self._indices.get(name.lower()):
            message = f"invalid stage in {what}: it {'is this one' if index in named else 'comes after this one'}"
            hint = "Move the stage before the one that reads it."
            raise self.source.error(message, location, word=name, hint=hint)
        if context := self._context(name):
            match self.options.contexts[context]:
                case DirectoryContext():
                    return ContextOrigin(context)
                case ImageContext(reference):
                    return ImageOrigin(reference, self.options.platform)
        if name == "scratch":
            raise self.source.error(f"invalid {what}: scratch has no files", location, word=name)
        image = self._reference(name, name, location, index)
        return ImageOrigin(image, self.options.platform, self._image_hint(name, index, image))

    def _context(self, name: str) -> str:
        """The named context that replaces the image ``name``, ``""`` if none does."""
        if name in self.options.contexts:
            return name
        try:
            familiar = Reference.parse(name).familiar().removesuffix(":latest")
        except ImagewrightError:
            return ""
        return familiar if familiar in self.options.contexts else ""

    def _reference(self, name: str, written: str, location: Location, index: int) -> Reference:
        try:
            return Reference.parse(name)
        except ImagewrightError as error:
            hint = self._near_stage(name, index) or error.hint
            raise self.source.error(error.message, location, word=written, hint=hint, reason=error.reason) from error

    def _last_before(self, name: str, index: int) -> int | None:
        """The last stage of this name before the stage ``index``."""
        indices = self._indices.get(name, [])
        position = bisect_left(indices, index)
        return indices[position - 1] if position else None

    def _near_stage(self, name: str, index: int) -> str:
        """A hint for a plain name that is similar to that of an earlier stage; for many names there is none."""
        if not _is_plain(name):
            return ""
        if len(self._hints) < _MOST_HINTS:
            before = [stage.name for stage in self.dockerfile.stages[:index] if stage.name]
            near = nearest(name, before)
            self._hints[name, index] = f"Did you mean the stage {near}?" if near else ""
        return self._hints.get((name, index), "")

    def _image_hint(self, name: str, index: int, image: Reference) -> str:
        """A hint for a missing image: a plain name that was meant for a stage is looked up at Docker Hub."""
        if not _is_plain(name):
            return ""
        assumed = f"No earlier stage is named {name}, so it was resolved as the image {image}."
        return " ".join(filter(None, (self._near_stage(name, index), assumed)))

    def _expand(self, word: str, location: Location, what: str) -> Expansion:
        try:
            expansion = expand(word, self.global_args, self.expansion)
        except ExpansionError as error:
            raise self.source.cannot_expand(f"{word[:100]} in {what}", error, location, word=word) from error
        if expansion.text:
            return expansion
        unset = next(iter(expansion.unset), "")
        declared = {item.name for arg in self.dockerfile.global_args for item in arg.items}
        near = nearest(unset, declared) or nearest(unset, self.global_args)
        if unset in declared:
            hint = f"Use --build-arg {unset}=value (ImageBuild: spec.buildArgs), or set a default: ARG {unset}=value."
        elif near:
            hint = f"Did you mean ${near}?"
        else:
            hint = f"Declare it before the first FROM: ARG {unset}=value." if unset else ""
        raise self.source.error(f'{what} is empty: "{word}" has no value', location, word=word, hint=hint)


def _is_plain(name: str) -> bool:
    """Whether a name could be that of a stage or of an image."""
    return set(name).isdisjoint("/:@")


def _context_base(context: NamedContext, name: str, platform: Platform) -> _Base:
    match context:
        case ImageContext(reference):
            return _Base(ImageBase(reference, platform), platform)
        case DirectoryContext():
            return _Base(ContextBase(name), platform)


def _stage_number(text: str) -> int | None:
    """The number of a stage, leading zeros allowed, None for a name. Ten digits are more than any file has."""
    return int(text.lstrip("0")[:10] or "0") if text.isascii() and text.isdigit() else None


def _assemble(resolver: _Resolver, needed: dict[int, _NeededStage], target: int) -> BuildPlan:
    """Plan the needed stages in the order of the file, which has every stage after those that it needs."""
    options = resolver.options
    build = BuildScope(
        resolver.source,
        resolver.expansion,
        options.build_args,
        resolver.global_args,
        proxy_environment(options.build_args),
    )
    finished: dict[int, PlannedStage] = {}
    plans: list[StagePlan] = []
    for index in sorted(needed):
        base = resolver.bases[index]
        inherited = finished[base.kind.stage] if isinstance(base.kind, StageBase) else None
        config = needed[index].config or (inherited.config if inherited else _scratch(base.platform))
        planned = plan_stage(build, config, inherited, needed[index].instructions)
        finished[index] = planned
        stage = resolver.dockerfile.stages[index]
        final = _finish_target(planned.config, base.platform, options) if index == target else planned.config
        plans.append(StagePlan(index, stage.from_, base.kind, base.platform, planned.steps, final))
    own = [warning for stage in finished.values() for warning in stage.warnings]
    warnings = [
        *resolver.dockerfile.warnings,
        *_undeclared_arguments(resolver, needed),
        *_platform_warnings(resolver, needed),
        *own,
    ]
    return BuildPlan(tuple(plans), tuple(dict.fromkeys(warnings)))


def _platform_warnings(resolver: _Resolver, needed: dict[int, _NeededStage]) -> list[DockerfileWarning]:
    """Warnings for base images of another platform than requested."""
    warnings: list[DockerfileWarning] = []
    for index, stage in needed.items():
        base = resolver.bases[index]
        if stage.config is None or not isinstance(base.kind, ImageBase):
            continue
        actual, expected = stage.config.platform, base.platform
        if (actual.os, actual.architecture) != (expected.os, expected.architecture):
            message = (
                f'Base image {base.kind.reference.familiar()} was pulled with platform "{actual}",'
                f' expected "{expected}" for current build'
            )
            from_ = resolver.dockerfile.stages[index].from_
            place = resolver.source.narrow(from_.location, from_.image)
            warnings.append(DockerfileWarning("InvalidBaseImagePlatform", message, place))
    return warnings


def _finish_target(config: ImageConfig, from_: Platform, options: PlanOptions) -> ImageConfig:
    """The target's configuration, for the requested platform or that of FROM, with the labels of the options."""
    value = config.to_json()
    platform = options.platform if options.platform_asked else from_
    if (value.get("os"), value.get("architecture")) != (platform.os, platform.architecture):
        value.pop("variant", None)
        value.pop("os.version", None)
    value |= {"os": platform.os, "architecture": platform.architecture}
    value |= {"variant": platform.variant} if platform.variant else {}
    value |= {"os.version": platform.os_version} if platform.os_version else {}
    if options.labels:
        labels = (value["config"].get("Labels") or {}) | dict(options.labels)
        value["config"]["Labels"] = dict(sorted(labels.items()))
    return ImageConfig(value)


def _scratch(platform: Platform) -> ImageConfig:
    return ImageConfig.scratch(platform).with_config({"WorkingDir": "/"})


def _undeclared_arguments(resolver: _Resolver, needed: dict[int, _NeededStage]) -> list[DockerfileWarning]:
    """Warnings for build arguments that no ARG declares, as in BuildKit."""
    dockerfile = resolver.dockerfile
    declared = {item.name for arg in dockerfile.global_args for item in arg.items} | set(resolver.global_args)
    written = [instruction for stage in dockerfile.stages for instruction in stage.instructions]
    planned = [item.instruction for stage in needed.values() for item in stage.instructions]
    for instruction in [*written, *planned]:
        if isinstance(instruction, Arg):
            declared |= {item.name for item in instruction.items}
    place = dockerfile.stages[0].from_.location
    warnings: list[DockerfileWarning] = []
    for name in resolver.options.build_args:
        if name in declared or may_be_undeclared(name):
            continue
        near = nearest(name, declared)
        message = f"build argument {name} is not declared by any ARG{f' (did you mean {near}?)' if near else ''}"
        warnings.append(DockerfileWarning("UndeclaredBuildArg", message, place))
    return warnings
