"""The engine's half of the table of source kinds: how each is read from an address, and how it is fetched.

``contract.sources.KINDS`` is the other half. No I/O of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from imagewright.context import local
from imagewright.context.archives import archived, download_http, download_oci, parse_http, parse_oci
from imagewright.context.buckets import azure, gcs, s3
from imagewright.context.git.address import parse_git
from imagewright.context.git.checkout import fetch_git
from imagewright.context.job import FetchedContext, FetchJob
from imagewright.contract.sources import (
    KINDS,
    AzureBlobSource,
    ConfigMapSource,
    DirectorySource,
    GcsSource,
    GitSource,
    HttpArchiveSource,
    InlineSource,
    OciSource,
    S3Source,
    Source,
    SourceModel,
    TarSource,
)
from imagewright.records import dataclass


@dataclass(frozen=True, slots=True)
class SourceHandler:
    """``fetch(source, job)`` makes a directory of a source.

    ``parse(address, rest, environment)`` reads an address that starts with one of the kind's schemes, ``rest`` being
    what follows it; None where it is another kind's after all. No ``parse``: the command line has no address for the
    kind.
    """

    fetch: Callable[[Any, FetchJob], FetchedContext]
    parse: Callable[[str, str, Mapping[str, str]], Source | None] | None = None


HANDLERS: Mapping[type[SourceModel], SourceHandler] = {
    DirectorySource: SourceHandler(local.fetch_directory, local.parse_directory),
    TarSource: SourceHandler(local.fetch_tar, local.parse_tar),
    GitSource: SourceHandler(fetch_git, parse_git),
    AzureBlobSource: SourceHandler(archived(azure.download), azure.parse),
    HttpArchiveSource: SourceHandler(archived(download_http), parse_http),
    S3Source: SourceHandler(archived(s3.download), s3.parse),
    GcsSource: SourceHandler(archived(gcs.download), gcs.parse),
    OciSource: SourceHandler(archived(download_oci), parse_oci),
    ConfigMapSource: SourceHandler(local.fetch_config_map),
    InlineSource: SourceHandler(local.fetch_inline),
}


def fetch(source: Source, job: FetchJob) -> FetchedContext:
    """Fetch a source below the job's work directory.

    Raises:
        SourceError: with the reasons of its kind.
        RegistryError: for a source in a registry.
    """
    return HANDLERS[type(source)].fetch(source, job)


def parse_address(text: str, environment: Mapping[str, str]) -> Source | None:
    """The source that ``--context`` names; None where no kind has such a scheme. Without a scheme it is a directory.

    Raises:
        ImagewrightError: a scheme's address is malformed.
    """
    for kind in KINDS:
        parse = HANDLERS[kind.model].parse
        for scheme in kind.schemes if parse else ():
            if parse and text.startswith(scheme):
                source = parse(text, text.removeprefix(scheme), environment)
                if source is not None:
                    return source
    return None if "://" in text else DirectorySource(path=text)
