"""The secrets of RUN --mount=type=secret: read once, before the first command runs, and kept in memory.

Reads files and the given environment. A build that lacks a required secret is refused before anything is built.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

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


def check_required(plan: BuildPlan, lines: Sequence[str], secrets: Collection[str], agents: Collection[str]) -> None:
    """Refuse a build whose RUNs require a secret or an ssh agent that it wasn't given.

    Args:
        lines: the Dockerfile's.
        secrets: ids of those that were given.
        agents: ids of those that were given.

    Raises:
        ImagewrightError: reason ``SecretNotFound``, with the step's place in the Dockerfile.
    """
    for stage in plan.stages:
        for step in (step for step in stage.steps if isinstance(step, RunStep)):
            for mount in step.mounts:
                if isinstance(mount, SecretMount) and mount.required and mount.id not in secrets:
                    raise _missing(
                        step, lines, f'secret "{mount.id}"', f"--secret id={mount.id},src=FILE", "spec.secrets"
                    )
                if isinstance(mount, SshMount) and mount.required and mount.id not in agents:
                    how = f"--ssh {mount.id} (your agent) or --ssh {mount.id}=KEYFILE"
                    raise _missing(step, lines, f'ssh agent "{mount.id}"', how, "spec.ssh")


def _missing(step: RunStep, lines: Sequence[str], what: str, how: str, field: str) -> ImagewrightError:
    error = ImagewrightError(
        f"required {what} was not provided",
        reason=Reason.SECRET_NOT_FOUND,
        location=step.location,
        excerpt=excerpt(lines, step.location),
        hint=f"Provide it with {how}; in an ImageBuild: {field}.",
    )
    error.instruction = step.title
    step.text.substitutions.restore(error, VALUES_HINT)
    return error
