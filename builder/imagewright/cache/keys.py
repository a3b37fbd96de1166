"""The cache key of a step: a hash of all inputs of its layer.

No I/O: callers pass hashes of files. Steps with the same key make the same layer, except for a command's own sources of
variation such as the clock and the network: everything that a step can see is part of its key, and nothing else.

Base layers are part of it. A layer of a RUN is identified by its content (config.md, "Layer DiffID"), so that the key
depends on the actual result of that RUN. A layer of a COPY, ADD or WORKDIR is identified by the key of that step, since
only times differ when the step is executed again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from typing import Any

from imagewright.digest import Field, FramedHash
from imagewright.plan.remote import UrlSource
from imagewright.plan.steps import (
    BindMount,
    CacheMount,
    CopyStep,
    Mount,
    RunStep,
    SecretMount,
    SshMount,
    TmpfsMount,
    WorkdirStep,
    later_fields,
    released_fields,
)
from imagewright.records import dataclass

_VERSION = 1  # raise it when the same inputs would make another layer


@dataclass(frozen=True, slots=True)
class KeyContext:
    """The inputs that all keys have in common: base layers, and settings that affect the bytes of every layer.

    ``layers`` are the identities of the layers below, base first. ``epoch``, in seconds, is the limit of file times,
    None for no limit.
    """

    layers: Sequence[str]
    platform: str
    epoch: int | None
    compression: str
    level: int | None

    def parts(self) -> list[tuple[str, str]]:
        settings = _hash(_VERSION, self.platform, self.epoch, self.compression, self.level)
        return [("what it starts from", chain(self.layers)), ("settings of the build", settings)]


@dataclass(frozen=True, slots=True)
class StepKey:
    """``parts`` are the names of the inputs, for messages, each with its hash. The names are part of the key."""

    parts: tuple[tuple[str, str], ...]

    @property
    def text(self) -> str:
        """64 hexadecimal digits, valid as a tag in any registry."""
        return _hash(*(text for part in self.parts for text in part))


def chain(layers: Iterable[str]) -> str:
    """The hash of a file system that consists of these layers."""
    return _hash(*layers)


def run_key(context: KeyContext, step: RunStep, sources: Sequence[str]) -> StepKey:
    """The key of a RUN. ``sources`` are hashes of the files that its mounts show, in order.

    Neither the value of a secret nor the content of a cache mount is part of it, as in BuildKit.
    """
    script = (step.script.path, step.script.content) if step.script else (None, None)
    parts = [
        *context.parts(),
        ("the command", _hash(len(step.argv), *step.argv, *script)),
        ("USER", _hash(step.user)),
        ("WORKDIR", _hash(step.workdir)),
        ("--network", _hash(step.network)),
        ("--mount", _hash_lists(_mount(mount) for mount in step.mounts)),
        ("files that are mounted", _hash(*sources)),
    ]
    # The order of variables is what `env` prints.
    shown = [(name, value) for name, value in step.env if name not in step.proxies]
    parts.append(("the names of variables", _hash(*(name for name, _ in shown))))
    parts += [(f"the variable {name}", _hash(value)) for name, value in shown]
    return StepKey((*parts, *_later_parts(step)))


def copy_key(context: KeyContext, step: CopyStep, sources: Sequence[str]) -> StepKey:
    """The key of a COPY or ADD.

    ``sources`` are hashes of the files that are copied, or of the layers that have them.
    """
    options = step.options
    # A remote source counts by its content, and by whether it is unpacked.
    written: list[Field] = [
        source if isinstance(source, str) else isinstance(source, UrlSource) and source.unpack is True
        for source in step.sources
    ]
    instruction = FramedHash(
        step.destination, options.chown, options.chmod, step.extract, options.parents, options.link
    )
    instruction.add_list(written)
    instruction.add_list(options.excludes)
    instruction.add_list(text for file in step.files for text in (file.name, file.content))
    files = ("files that are copied", _hash(*sources))
    return StepKey(
        (
            *context.parts(),
            ("the instruction", instruction.hexdigest()),
            files,
            *_later_parts(step),
            *_later_parts(options),
        )
    )


def workdir_key(context: KeyContext, step: WorkdirStep) -> StepKey:
    """The key of a WORKDIR, which creates a directory where there is none."""
    instruction = ("the instruction", _hash(step.path, step.user))
    return StepKey((*context.parts(), instruction, *_later_parts(step)))


def _later_parts(record: Any) -> Iterator[tuple[str, str]]:
    """A part for each field that was added after the first release, if it is set."""
    return ((name, _hash(*_flat(value))) for name, value in later_fields(record))


def _mount(mount: Mount) -> list[Field]:
    released: list[Field] = [getattr(mount, name) for name in released_fields(mount)]
    later = [field for name, value in later_fields(mount) for field in (name, *_flat(value))]
    return [_kind(mount), *released, *later]


def _kind(mount: Mount) -> str:
    match mount:
        case BindMount():
            return "bind"
        case CacheMount():
            return "cache"
        case TmpfsMount():
            return "tmpfs"
        case SecretMount():
            return "secret"
        case SshMount():
            return "ssh"


def _flat(value: Any) -> Iterator[Field]:
    """The value of a field as plain values: a list after its length, a record after the name of its class.

    Raises:
        TypeError: the type of the value is not supported.
    """
    match value:
        case None | bool() | int() | str() | bytes():
            yield value
        case tuple() | list():
            yield len(value)
            for one in value:
                yield from _flat(one)
        case _:
            yield type(value).__name__
            for one in fields(value):
                yield from _flat(getattr(value, one.name))


def _hash_lists(lists: Iterable[list[Field]]) -> str:
    hasher = FramedHash()
    for each in lists:
        hasher.add_list(each)
    return hasher.hexdigest()


def _hash(*fields: Field) -> str:
    hasher = FramedHash(len(fields), *fields)
    return hasher.hexdigest()
