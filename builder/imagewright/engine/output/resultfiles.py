"""Files with the result of a build: the image's digest and names, and the whole result as JSON.

Writes files, after everything else: when one of them exists, the image does too.
"""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Sequence

from imagewright.contract.request import OutputSettings
from imagewright.contract.result import BuildResult
from imagewright.digest import Digest
from imagewright.engine.output.destinations import Destinations
from imagewright.reference import Reference
from imagewright.store.files import replacing, write_error


def write_digests(destinations: Destinations, names: Sequence[Reference], digest: Digest) -> None:
    """Write the files of --digest-file, --image-name-with-digest-file and --image-name-tag-with-digest-file.

    ``names`` are the references that have the image, or would have if it were pushed.

    Raises:
        ImagewrightError: reason ``OutputFailed``.
    """
    if destinations.digest_file:
        write_file(destinations.digest_file, str(digest), "--digest-file")
    if destinations.name_with_digest_file:
        lines = _lines([f"{reference.name}@{digest}" for reference in names])
        write_file(destinations.name_with_digest_file, lines, "--image-name-with-digest-file")
    if destinations.name_tag_with_digest_file:
        lines = _lines([str(reference.with_digest(digest)) for reference in names])
        write_file(destinations.name_tag_with_digest_file, lines, "--image-name-tag-with-digest-file")


def forget_results(output: OutputSettings) -> None:
    """Remove the files that an earlier build has left: after a failure they would be taken for this one's.

    What is mounted is emptied instead. What can't be removed can't be written either, which is reported then.
    """
    for path in (
        output.digest_file,
        output.image_name_with_digest_file,
        output.image_name_tag_with_digest_file,
        output.result_file,
    ):
        if path and os.path.isfile(path) and not _is_log(path):
            with contextlib.suppress(OSError):
                try:
                    os.unlink(os.path.realpath(path))
                except OSError:
                    os.truncate(path, 0)


def check_writable(destinations: Destinations, result_file: str) -> None:
    """Fail before the image is pushed if one of the files can't be written: afterwards it would be too late.

    Raises:
        ImagewrightError: reason ``OutputFailed``.
    """
    for path, flag in (
        (destinations.digest_file, "--digest-file"),
        (destinations.name_with_digest_file, "--image-name-with-digest-file"),
        (destinations.name_tag_with_digest_file, "--image-name-tag-with-digest-file"),
        (result_file, "--result-file"),
    ):
        if path:
            check_file(path, flag)


def check_file(path: str, flag: str) -> None:
    """Fail if the file of a flag can't be written; changes nothing but to create its folder.

    Raises:
        ImagewrightError: reason ``OutputFailed``.
    """
    try:
        if os.path.isdir(path):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        if os.path.exists(path) and not os.path.isfile(path):
            return  # a pipe, for example
        folder = os.path.dirname(os.path.realpath(path))
        os.makedirs(folder, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise write_error(f"the file {path}", error, flag) from error


def write_result(path: str, result: BuildResult) -> None:
    """Write the result of a build, successful or not, as one JSON object.

    Raises:
        ImagewrightError: reason ``OutputFailed``.
    """
    write_file(path, result.to_json() + "\n", "--result-file")


def references_with_digest(destinations: Sequence[Reference], digest: Digest) -> tuple[str, ...]:
    """``name:tag@digest`` for each destination."""
    return tuple(reference.with_digest(digest).familiar() for reference in destinations)


def _is_log(path: str) -> bool:
    """Whether this process writes its log there: ``/dev/stdout``, redirected to a file."""
    for fd in (1, 2):
        with contextlib.suppress(OSError):
            if os.path.samestat(os.stat(path), os.fstat(fd)):
                return True
    return False


def _lines(texts: Sequence[str]) -> str:
    return "".join(f"{text}\n" for text in texts)


def write_file(path: str, text: str, flag: str) -> None:
    """Write the file of a flag, and its folder if that is missing.

    Raises:
        ImagewrightError: reason ``OutputFailed``.
    """
    try:
        folder = os.path.dirname(path)
        if folder:
            os.makedirs(folder, exist_ok=True)
        with replacing(path) as file:
            file.write(text.encode())
    except OSError as error:
        raise write_error(f"the file {path}", error, flag) from error
