"""Renders a plan as text, which ``imagewright plan`` prints.

No I/O.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from imagewright.dockerfile.flags import Flag, flags_of
from imagewright.dockerfile.model import CopyOptions
from imagewright.plan.model import BuildPlan, StagePlan
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
from imagewright.plan.remote import GitRemote, RemoteSource, UrlSource
from imagewright.plan.steps import (
    BindMount,
    CacheMount,
    CopyStep,
    MetadataStep,
    Mount,
    Network,
    RunStep,
    SecretMount,
    SshMount,
    Step,
    TmpfsMount,
    WorkdirStep,
    later_fields,
)


def render(plan: BuildPlan, *, values: bool) -> str:
    """The plan as lines: stages in execution order, each with its base and its steps as written.

    With ``values`` also the expanded form of each step, as executed and recorded, and the final configuration of each
    stage, all of which contain the values of build arguments.
    """
    blocks = ["\n".join(_stage(plan, stage, values=values)) + "\n" for stage in plan.stages]
    warnings = [f"warning: {w.location}: {w.message} [{w.rule}]\n" for w in plan.warnings]
    return "\n".join(blocks) + ("\n" + "".join(warnings) if warnings else "")


def _stage(plan: BuildPlan, stage: StagePlan, *, values: bool) -> Iterator[str]:
    target = " (target)" if stage is plan.target else ""
    yield f"stage {stage.index} {stage.label}{target} from {_base(plan, stage.base)} for {stage.platform}"
    environment: tuple[tuple[str, str], ...] = ()
    for step in stage.steps:
        yield f"  {step.title}"
        yield from (f"      {line}" for line in _known(plan, step))
        if values:
            yield from (f"      {line}" for line in _executed(plan, step, environment))
            yield f"      history: {step.created_by}"
        if isinstance(step, RunStep):
            environment = step.env
    if values:
        yield from _config(stage)


def _config(stage: StagePlan) -> Iterator[str]:
    if stage.config.platform != stage.platform:
        yield f"  config platform: {stage.config.platform}"
    value = stage.config.to_json()
    author = {"author": value["author"]} if value.get("author") else {}
    for key, item in (author | stage.config.config).items():
        yield f"  config {key}: {json.dumps(item, ensure_ascii=False)}"


def _base(plan: BuildPlan, base: Base) -> str:
    match base:
        case ImageBase(reference):
            return str(reference)
        case StageBase(stage):
            return f"stage {stage} {plan.stage(stage).label}"
        case ScratchBase():
            return "scratch"
        case ContextBase(context):
            return f"the context {context}"


def _origin(plan: BuildPlan, origin: Origin) -> str:
    match origin:
        case ContextOrigin(context):
            return f"the context {context}" if context else "the build context"
        case StageOrigin(stage):
            return f"stage {stage} {plan.stage(stage).label}"
        case ImageOrigin(reference):
            return str(reference)


def _known(plan: BuildPlan, step: Step) -> Iterator[str]:
    """The parts of a step without values of variables: the command, and the origin of files."""
    match step:
        case RunStep():
            yield f"run {json.dumps(list(step.argv), ensure_ascii=False)}"
            if step.script is not None:
                yield f"script {step.script.path} {json.dumps(step.script.content, ensure_ascii=False)}"
        case CopyStep():
            if step.files or any(isinstance(source, str) for source in step.sources):
                yield f"from {_origin(plan, step.origin)}"
        case _:
            return


def _executed(plan: BuildPlan, step: Step, shown: tuple[tuple[str, str], ...]) -> Iterator[str]:
    """The rest of a step, expanded. Of the environment only what differs from the previous RUN."""
    match step:
        case RunStep():
            yield from (f"mount {_mount(plan, mount)}" for mount in step.mounts)
            if step.network is not Network.DEFAULT:
                yield f"network {step.network}"
            yield f"in {step.workdir} as {step.user or 'root'}"
            for name, value in step.env:
                if (name, value) not in shown:
                    yield f"env {name}={value}"
        case CopyStep():
            remotes = [source for source in step.sources if not isinstance(source, str)]
            files = [f"<<{file.name}" for file in step.files]
            yield f"copy {' '.join([*map(str, step.sources), *files])} to {step.destination}"
            yield from (f"fetch {remote}{_fetching(remote)}" for remote in remotes)
            yield from (f"file {f.name} {json.dumps(f.content, ensure_ascii=False)}" for f in step.files)
            flags = [word for flag in flags_of(step.options).values() for word in _words(flag, step.options)]
            if flags:
                yield f"flags {' '.join(flags)}"
            if step.extract and len(remotes) < len(step.sources):
                yield "unpack archives"
        case WorkdirStep():
            yield f"make {step.path} as {step.user or 'root'}"
        case MetadataStep():
            pass
    yield from (f"{name} {value}" for name, value in later_fields(step))


def _words(flag: Flag, options: CopyOptions) -> tuple[str, ...]:
    return flag.as_written(getattr(options, flag.field))


def _fetching(remote: RemoteSource) -> str:
    match remote:
        case UrlSource():
            said = [f"as {remote.name}", remote.checksum, "unpack it" * remote.unpack]
        case GitRemote():
            said = [f"commit {remote.checksum}" * bool(remote.checksum), "by commit" * remote.by_commit]
            said += ["with .git" * bool(remote.keep_git_dir), "without submodules" * (not remote.submodules)]
            said.append("of the commit's time" * remote.commit_times)
    return "".join(f", {each}" for each in said if each)


def _mount(plan: BuildPlan, mount: Mount) -> str:
    others = "".join(f", {name} {value}" for name, value in later_fields(mount))
    return _released_mount(plan, mount) + others


def _released_mount(plan: BuildPlan, mount: Mount) -> str:
    match mount:
        case BindMount(target, origin, source, writable):
            how = "writable, thrown away" if writable else "read-only"
            return f"{source} of {_origin(plan, origin)} at {target}, {how}"
        case CacheMount():
            seed = f", at first {mount.source} of {_origin(plan, mount.origin)}" if mount.origin is not None else ""
            how = "" if mount.writable else ", read-only"
            return f"cache {mount.id} at {mount.target}, {mount.sharing}{how}{_owner(mount)}{seed}"
        case TmpfsMount(target, size):
            return f"tmpfs at {target}" + (f", {size} bytes" if size else "")
        case SecretMount():
            places = [f"at {mount.target}"] * bool(mount.target) + [f"as ${mount.env}"] * bool(mount.env)
            required = ", required" * mount.required
            return f"secret {mount.id} {' and '.join(places)}{required}{_owner(mount)}"
        case SshMount():
            return f"ssh {mount.id} at {mount.target}{', required' * mount.required}{_owner(mount)}"


def _owner(mount: CacheMount | SecretMount | SshMount) -> str:
    if mount.uid == mount.gid == mount.mode is None:
        return ""
    uid, gid = ("-" if id_ is None else id_ for id_ in (mount.uid, mount.gid))
    return f", {uid}:{gid} {'-' if mount.mode is None else f'{mount.mode:04o}'}"
