"""Flags that say what becomes of the build: destinations, files, formats, layers.

No I/O.
"""

from __future__ import annotations

from imagewright.cli.flags.model import Flag, Kind

OUTPUT_FLAGS: tuple[Flag, ...] = (
    Flag("destination", Kind.LIST, "REFERENCE", "where to push the image; may be given many times", "d"),
    Flag("no-push", Kind.BOOLEAN, "", "build without pushing", environment="KANIKO_NO_PUSH"),
    Flag("dryrun", Kind.BOOLEAN, "", "print what would be executed, and build nothing"),
    Flag("label", Kind.LIST, "KEY=VALUE", "a label of the image"),
    Flag("annotation", Kind.LIST, "KEY=VALUE", "an annotation of the image's manifest"),
    Flag(
        "image-format",
        Kind.TEXT,
        "FORMAT",
        "oci or docker: the media types; the base image's if not given",
        choices=("oci", "docker"),
    ),
    Flag("compression", Kind.TEXT, "KIND", "gzip or zstd, of new layers; gzip if not given", choices=("gzip", "zstd")),
    Flag("compression-level", Kind.NUMBER, "LEVEL", "of the compressor; -1 is the engine's own choice"),
    Flag("reproducible", Kind.BOOLEAN, "", "all times are 1970, unless SOURCE_DATE_EPOCH says another"),
    Flag(
        "single-snapshot",
        Kind.BOOLEAN,
        "",
        "all that the last stage changes becomes one layer; its steps are not cached",
    ),
    Flag("ignore-path", Kind.LIST, "PATH", "what a RUN changes there enters no layer"),
    Flag("oci-layout-path", Kind.TEXT, "FOLDER", "write the image as an OCI image layout too"),
    Flag("tar-path", Kind.TEXT, "FILE", "write the image as a docker-archive too", earlier="tarPath"),
    Flag("digest-file", Kind.TEXT, "FILE", "write the image's digest there"),
    Flag("image-name-with-digest-file", Kind.TEXT, "FILE", "write name@digest there, a line for each destination"),
    Flag(
        "image-name-tag-with-digest-file", Kind.TEXT, "FILE", "write name:tag@digest there, a line for each destination"
    ),
    Flag("result-file", Kind.TEXT, "FILE", "write what came of the build there, as JSON"),
)
