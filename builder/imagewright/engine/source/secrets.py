"""The secrets of RUN --mount=type=secret: read once, before the first command runs, and kept in memory.

Reads files and the given environment. A build that lacks a required secret is refused before anything is built.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from imagewright.contract import MAX_SECRET_BYTES
from imagewright.contract.request import SecretSource
from imagewright.dockerfile.source import excerpt
from imagewright.dockerfile.substitutions import VALUES_HINT
from imagewright.errors import ImagewrightError, Reason
from imagewright.plan.model import BuildPlan
from imagewright.plan.steps import RunStep, SecretMount, SshMount


def read_secrets(sources: Iterable[SecretSource], environment: Mapping[str, str]) -> Mapping[str, bytes]:
    """The values by id, without those whose variable isn't set.

    Raises:
        ImagewrightError: reason ``SecretNotFound``, a file cannot be read; a secret is too large.
    """
    values: dict[str, bytes] = {}
    for source in sources:
        if source.env:
            text = environment.get(source.env)
            if text is not None:
                values[source.id] = text.encode("utf-8", "surrogateescape")
        else:
            values[source.id] = _read(source)
        if len(values.get(source.id, b"")) > MAX_SECRET_BYTES:
            raise ImagewrightError(
                f'secret "{source.id}" is larger than {MAX_SECRET_BYTES} bytes',
                reason=Reason.USAGE_INVALID,
                hint="Use secrets for tokens and keys, and the build context for other files.",
            )
    return values


def _read(source: SecretSource) -> bytes:
    try:
        with open(source.file, "rb") as file:
            return file.read(MAX_SECRET_BYTES + 1)
    except OSError as error:
        raise ImagewrightError(
            f'cannot read secret "{source.id}" from "{source.file}": {error.strerror}',
            reason=Reason.SECRET_NOT_FOUND,
            hint="Name a readable file with --secret id=NAME,src=FILE.",
        ) from error


def check_provided(
    plan: BuildPlan, lines: Sequence[str], secrets: Collection[str], agents: Collection[str]
) -> tuple[str, ...]:
    """Refuse a build whose RUNs require a secret or an ssh agent that it wasn't given; warn of others that are missing.

    Args:
        lines: the Dockerfile's.
        secrets: ids of those that were given.
        agents: ids of those that were given.

    Returns:
        Warnings, each with the step's line in the Dockerfile: such a RUN is executed without.

    Raises:
        ImagewrightError: reason ``SecretNotFound``, with the step's place in the Dockerfile.
    """
    warnings = []
    for stage in plan.stages:
        for step in (step for step in stage.steps if isinstance(step, RunStep)):
            for mount in absent_mounts(step, secrets, agents):
                if mount.required:
                    raise _missing(step, lines, mount)
                place = f"{step.location.file}:{step.location.line}"
                warning = f"{place}: {named(mount)} was not provided: RUN does without it. {how_to_provide(mount)}"
                warnings.append(step.text.substitutions.as_written(warning))
    return tuple(dict.fromkeys(warnings))


def absent_mounts(step: RunStep, secrets: Collection[str], agents: Collection[str]) -> Iterator[SecretMount | SshMount]:
    """The mounts of a RUN for which there is no secret or ssh agent."""
    for mount in step.mounts:
        if isinstance(mount, SecretMount) and mount.id not in secrets:
            yield mount
        if isinstance(mount, SshMount) and mount.id not in agents:
            yield mount


def hint_of_absent(step: RunStep, secrets: Collection[str], agents: Collection[str]) -> str:
    """For a RUN that has failed: what it may have lacked, "" if it was given all that it mounts."""
    for mount in absent_mounts(step, secrets, agents):
        hint = f"Its {named(mount)} was not provided. {how_to_provide(mount)}"
        return step.text.substitutions.as_written(hint)
    return ""


def named(mount: SecretMount | SshMount) -> str:
    """What a mount asks for, for messages."""
    return f'{"secret" if isinstance(mount, SecretMount) else "ssh agent"} "{mount.id}"'


def how_to_provide(mount: SecretMount | SshMount) -> str:
    """The remedy for a mount without a secret or agent."""
    if isinstance(mount, SecretMount):
        return f"Provide it with --secret id={mount.id},src=FILE (ImageBuild: spec.secrets)."
    return f"Provide it with --ssh {mount.id} or --ssh {mount.id}=KEYFILE (ImageBuild: spec.ssh)."


def _missing(step: RunStep, lines: Sequence[str], mount: SecretMount | SshMount) -> ImagewrightError:
    error = ImagewrightError(
        f"required {named(mount)} was not provided",
        reason=Reason.SECRET_NOT_FOUND,
        location=step.location,
        excerpt=excerpt(lines, step.location),
        hint=how_to_provide(mount),
    )
    error.instruction = step.title
    step.text.substitutions.restore(error, VALUES_HINT)
    return error
