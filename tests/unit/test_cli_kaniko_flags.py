"""kaniko's command line, flag by flag: every one is accepted in every form, and means here what the table says."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from imagewright.cli.arguments import deprecation_warnings, parse
from imagewright.cli.command import Kind
from imagewright.cli.flags import BUILD_FLAGS
from imagewright.cli.request import build_request
from imagewright.contract.request import BuildRequest, RegistrySettings, SecretSource

# The flags of kaniko's executor.
KANIKO = """annotation bucket build-arg cache cache-copy-layers cache-dir cache-from cache-repo cache-run-layers cache-to cache-ttl cleanup
compressed-caching compression compression-level context context-sub-path credential-helpers custom-platform destination
digest-file dockerfile dryrun force force-build-metadata git ignore-path ignore-var-run image-download-retry image-format
image-fs-extract-retry image-name-tag-with-digest-file image-name-with-digest-file insecure insecure-pull
insecure-registry kaniko-dir label log-format log-timestamp materialize no-push no-push-cache oci-layout-path pre-cleanup
preserve-context push-ignore-immutable-tag-errors push-retry registry-certificate registry-client-cert registry-map
registry-mirror reproducible secret single-snapshot skip-default-registry-fallback skip-push-permission-check
skip-tls-verify skip-tls-verify-pull skip-tls-verify-registry skip-unused-stages snapshot-mode tar-path target
use-new-run verbosity whitelist-var-run""".split()

EARLIER = {"snapshotMode": "snapshot-mode", "customPlatform": "custom-platform", "tarPath": "tar-path"}
GIT = "https://git.example.com/app.git"


@dataclass(frozen=True, slots=True)
class Row:
    """``value`` is given to the flag; ``words`` beside it; ``field`` of the request, a path with dots, then is
    ``means``.

    ``shown_by`` is the test that shows what that does in a build.
    """

    value: str
    field: str = ""
    means: Any = None
    words: tuple[str, ...] = ()
    shown_by: str = ""


FILE = __file__
TABLE: dict[str, Row] = {
    "annotation": Row("a=b", "image.annotations", {"a": "b"}, (), "test_annotations_are_in_the_manifest"),
    "bucket": Row("bucket/a.tar.gz", "context.source.object", "a.tar.gz", (), "test_context_in_a_bucket_of_google"),
    "build-arg": Row("A=b", "plan.build_args.0.value", "b", (), "test_the_environment_of_a_run"),
    "cache": Row(
        "true", "cache.target", "r.example.com/app/cache", (), "test_a_cached_build_pulls_and_unpacks_nothing"
    ),
    "cache-copy-layers": Row(
        "false", "cache.copy_layers", False, ("--cache",), "test_caching_of_copies_can_be_turned_off"
    ),
    "cache-dir": Row(
        "/tmp",
        "run.cache_dir",
        "/tmp",
        (),
        "test_a_locked_cache_is_free_again_after_its_build_is_killed",
    ),
    "cache-from": Row(
        "r.example.com/c",
        "cache.sources",
        ("r.example.com/c",),
        ("--cache",),
        "test_a_cache_that_is_only_looked_up_is_not_written",
    ),
    "cache-to": Row(
        "r.example.com/c",
        "cache.target",
        "r.example.com/c",
        ("--cache",),
        "test_a_cache_that_is_only_stored_is_not_looked_up",
    ),
    "cache-repo": Row(
        "r.example.com/c",
        "cache.target",
        "r.example.com/c",
        ("--cache",),
        "test_a_cached_build_pulls_and_unpacks_nothing",
    ),
    "cache-run-layers": Row("false", "cache.run_layers", False, ("--cache",), "test_caching_of_runs_can_be_turned_off"),
    "cache-ttl": Row("6h", "cache.ttl_s", 21600, ("--cache",), "test_an_old_entry_is_a_miss"),
    "cleanup": Row("true"),
    "compressed-caching": Row("false"),
    "compression": Row("zstd", "image.compression", "zstd", (), "test_zstd"),
    "compression-level": Row("9", "image.compression_level", 9, (), "test_compression_level"),
    "context": Row("dir:///tmp", "context.source.path", "/tmp", (), "test_each_step_makes_a_layer_of_its_changes"),
    "context-sub-path": Row("sub", "context.directory", "sub", (), "test_context_sub_path"),
    "credential-helpers": Row("ecr", "registry.credential_helpers", ("ecr",), (), "test_helpers_that_are_asked"),
    "custom-platform": Row("linux/arm64", "plan.platform", "linux/arm64", (), "test_image_of_another_platform"),
    "destination": Row(
        "r.example.com/b:2",
        "output.destinations.1",
        "r.example.com/b:2",
        (),
        "test_many_destinations_archive_digest_file_and_labels",
    ),
    "digest-file": Row("/tmp/d", "output.digest_file", "/tmp/d", (), "test_digest_files"),
    "dockerfile": Row("Other", "plan.dockerfile", "Other", (), "test_dockerfile_outside_the_context"),
    "dryrun": Row("true", shown_by="test_dryrun_prints_the_plan_and_builds_nothing"),
    "force": Row("true"),
    "force-build-metadata": Row("true"),
    "git": Row("branch=main", "context.source.ref", "main", (f"--context={GIT}",), "test_git_options_of_kaniko"),
    "ignore-path": Row("/cache", "image.ignore_paths", ("/cache",), (), "test_ignored_paths_are_in_no_layer"),
    "ignore-var-run": Row("true"),
    "image-download-retry": Row("3", "registry.pull_retries", 3, (), "test_more_tries_of_a_pull"),
    "image-format": Row("docker", "image.format", "docker", (), "test_media_types_are_those_requested"),
    "image-fs-extract-retry": Row("3", "registry.pull_retries", 3, (), "test_more_tries_of_a_pull"),
    "image-name-tag-with-digest-file": Row(
        "/tmp/t", "output.image_name_tag_with_digest_file", "/tmp/t", (), "test_digest_files"
    ),
    "image-name-with-digest-file": Row(
        "/tmp/n", "output.image_name_with_digest_file", "/tmp/n", (), "test_digest_files"
    ),
    "insecure": Row("true", "registry.insecure", True, (), "test_plain_http_is_not_spoken_unless_allowed"),
    "insecure-pull": Row("true", "registry.insecure_pull", True, (), "test_plain_http_is_not_spoken_unless_allowed"),
    "insecure-registry": Row(
        "r.example.com",
        "registry.hosts.0",
        RegistrySettings(host="r.example.com", insecure=True),
        (),
        "test_plain_http_is_not_spoken_unless_allowed",
    ),
    "kaniko-dir": Row("/other", "work_dir", "/other", (), "test_work_folder"),
    "label": Row("a=b", "plan.labels", {"a": "b"}, (), "test_the_engine_builds_what_is_recorded"),
    "log-format": Row("json", shown_by="test_failing_command_in_a_json_log"),
    "log-timestamp": Row("true", shown_by="test_timestamps"),
    "materialize": Row("true"),
    "no-push": Row("true", "output.push", False, (), "test_no_push"),
    "no-push-cache": Row("true", "cache.target", "", ("--cache",), "test_storing_can_be_turned_off"),
    "oci-layout-path": Row("/tmp/o", "output.oci_layout_path", "/tmp/o", (), "test_a_layout"),
    "pre-cleanup": Row("true"),
    "preserve-context": Row("true"),
    "push-ignore-immutable-tag-errors": Row(
        "true", "output.ignore_immutable_tags", True, (), "test_an_immutable_tag_is_a_warning_where_that_is_asked_for"
    ),
    "push-retry": Row("2", "registry.push_retries", 2, (), "test_more_tries_of_a_push"),
    "registry-certificate": Row(
        f"r.example.com={FILE}",
        "registry.hosts.0.ca_file",
        FILE,
        (),
        "test_a_private_registry_with_a_certificate_of_its_own",
    ),
    "registry-client-cert": Row(
        f"r.example.com={FILE},{FILE}",
        "registry.hosts.0.client_key_file",
        FILE,
        (),
        "test_a_client_certificate_is_shown",
    ),
    "registry-map": Row(
        "a.example.com=b.example.com",
        "registry.hosts.0.mirrors",
        ("b.example.com",),
        (),
        "test_a_mirror_is_asked_first_and_the_registry_after_it",
    ),
    "registry-mirror": Row(
        "m.example.com",
        "registry.hosts.0.mirrors",
        ("m.example.com",),
        (),
        "test_a_mirror_is_asked_first_and_the_registry_after_it",
    ),
    "reproducible": Row("true", "image.timestamps", "zero", (), "test_reproducible"),
    "secret": Row(
        f"id=a,src={FILE}",
        "run.secrets.0",
        SecretSource(id="a", file=FILE),
        (),
        "test_a_mounted_secret_that_is_printed_appears_nowhere",
    ),
    "single-snapshot": Row("true", "image.single_layer", True, (), "test_single_snapshot_makes_one_layer"),
    "skip-default-registry-fallback": Row(
        "true", "registry.hosts.0.mirrors_only", True, ("--registry-mirror=m.example.com",), "test_mirrors_only"
    ),
    "skip-push-permission-check": Row("true", "output.check_push", False, (), "test_no_check"),
    "skip-tls-verify": Row(
        "true", "registry.skip_tls_verify", True, (), "test_an_unknown_certificate_is_refused_unless_told"
    ),
    "skip-tls-verify-pull": Row(
        "true", "registry.skip_tls_verify_pull", True, (), "test_an_unknown_certificate_is_refused_unless_told"
    ),
    "skip-tls-verify-registry": Row(
        "r.example.com",
        "registry.hosts.0.skip_tls_verify",
        True,
        (),
        "test_an_unknown_certificate_is_refused_unless_told",
    ),
    "skip-unused-stages": Row("true"),
    "snapshot-mode": Row("redo"),
    "tar-path": Row(
        "/tmp/t.tar", "output.tar_path", "/tmp/t.tar", (), "test_an_archive_of_many_tags_is_loaded_by_skopeo"
    ),
    "target": Row("stage", "plan.target", "stage", (), "test_targets_and_unneeded_stages"),
    "use-new-run": Row("true"),
    "verbosity": Row("debug", shown_by="test_verbosity"),
    "whitelist-var-run": Row("true"),
}
FLAGS = {flag.name: flag for flag in BUILD_FLAGS}


TESTS = Path(__file__).parents[1]


def request(*words: str) -> BuildRequest:
    return build_request(parse(["--destination=r.example.com/app", *words], {}), {})


def value_of(asked: BuildRequest, path: str) -> Any:
    value: Any = asked
    for name in path.split("."):
        value = value[int(name)] if name.isdecimal() else getattr(value, name)
    return value


def test_the_table_has_every_flag_of_kaniko() -> None:
    assert sorted(TABLE) == sorted(KANIKO)


@pytest.mark.parametrize("name", KANIKO)
def test_flag_means_what_the_table_says(name: str) -> None:
    row = TABLE[name]
    flag = FLAGS[name]
    if not row.field:
        assert flag.no_effect or row.shown_by
        return
    assert not flag.no_effect
    forms = [[f"--{name}={row.value}"], *([] if flag.kind is Kind.BOOLEAN else [[f"--{name}", row.value]])]
    if row.value == "true":
        forms.append([f"--{name}"])
    for form in forms:
        assert value_of(request(*row.words, *form), row.field) == row.means, form


@pytest.mark.parametrize(("earlier", "name"), EARLIER.items())
def test_deprecated_names_are_still_taken(earlier: str, name: str) -> None:
    value = TABLE[name].value
    given = parse([f"--{earlier}={value}", f"--{earlier}", value], {})
    assert given.all(name) == (value, value)
    assert f"--{earlier} is deprecated: use --{name}" in deprecation_warnings(given, {})
    assert not deprecation_warnings(parse([f"--{name}={value}"], {}), {})[:-1]


@pytest.mark.parametrize("name", [name for name in KANIKO if FLAGS[name].environment])
def test_variable_has_the_effect_of_the_flag(name: str) -> None:
    flag, row = FLAGS[name], TABLE[name]
    from_flag = parse([f"--{name}={row.value}"], {})
    assert parse([], {flag.environment: row.value}).all(name) == from_flag.all(name)
    assert parse([f"--{name}={row.value}"], {flag.environment: "false"}).all(name) == from_flag.all(name)


@pytest.mark.parametrize("name", [name for name in KANIKO if FLAGS[name].no_effect])
def test_flag_without_effect_warns_in_one_line_and_changes_nothing(name: str) -> None:
    words = [f"--{name}={TABLE[name].value}"]
    (line,) = deprecation_warnings(parse(words, {}), {})
    assert line.startswith(f"--{name} has no effect here: ")
    assert "\n" not in line
    assert request(*words) == request()


def test_every_test_named_in_the_table_exists() -> None:
    found = set()
    for file in TESTS.rglob("test_*.py"):
        found |= set(re.findall(r"^ *def (test_\w+)", file.read_text(), re.MULTILINE))
    named = {row.shown_by for row in TABLE.values() if row.shown_by}
    assert named <= found, named - found
    assert all(row.shown_by or FLAGS[name].no_effect for name, row in TABLE.items())
