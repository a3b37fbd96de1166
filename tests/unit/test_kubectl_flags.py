"""The flags of ``kubectl imagewright create --dry-run``, alone and with a manifest that runs kaniko."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from imagebuilds.kanikopods import GIT, from_secret, pod
from imagebuilds.plugin import Plugin

Created = Callable[..., tuple[dict[str, Any], str]]


@pytest.fixture
def created(plugin: Plugin) -> Created:
    """The spec that ``create --from`` prints for a manifest and flags, and its standard error."""

    def run(manifest: str, *flags: str) -> tuple[dict[str, Any], str]:
        done = plugin.run("create", "--from=-", "--dry-run", *flags, stdin=manifest)
        return (yaml.safe_load(done.stdout)["spec"] if done.returncode == 0 else {}), done.stderr

    return run


def test_git_keeps_the_login_of_the_manifests_source(created: Created) -> None:
    env = [from_secret("GIT_USERNAME", "git", "username"), from_secret("GIT_PASSWORD", "git", "password")]
    manifest = pod(GIT, "--git=depth=0,recurse-submodules=true", env=env)
    url = "https://git.example.com/other.git"
    spec, said = created(manifest, f"--git={url}")
    assert spec["source"]["git"] == {"url": url, "submodules": True, "depth": 0, "secretRef": {"name": "git"}}
    assert 'note: --git uses the Secret "git" with the manifest\'s git login' in said
    spec, said = created(manifest, f"--git={url}", "--source-secret=mine")
    assert spec["source"]["git"]["secretRef"] == {"name": "mine"}
    assert "git login" not in said
    spec, said = created(manifest, "--http=https://h/a.tar.gz")
    assert spec["source"] == {"http": {"url": "https://h/a.tar.gz"}}
    assert 'note: ignored the Secret "git" with the manifest\'s git login' in said


def test_flags_add_to_the_manifests_source(created: Created) -> None:
    flags = ["--revision=refs/tags/v1", "--poll=5m", "--source-secret=git"]
    about = {"ref": {"tag": "v1"}, "poll": "5m", "secretRef": {"name": "git"}}
    assert created(pod(GIT), *flags)[0]["source"] == {"git": {"url": "git://git.example.com/team/app.git", **about}}
    with_login = pod("--context=git://me:s3cr3t@git.example.com/team/app.git")
    text = created(with_login)[1]
    assert "--source-secret" in text
    spec, said = created(with_login, "--source-secret=git")
    assert spec["source"] == {"git": {"url": "git://git.example.com/team/app.git", "secretRef": {"name": "git"}}}
    assert "s3cr3t" not in text + said
    bucket = pod("--context=s3://b/k.tar.gz")
    assert created(bucket, "--source-secret=s3")[0]["source"]["s3"]["secretRef"] == {"name": "s3"}
    assert (
        "--poll requires a source of type git: the manifest's is s3 [UsageInvalid]\nhint: "
        in (created(bucket, "--poll=5m")[1])
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["create", "app", "--secret=a"],
            'invalid --secret value "a": not ID=SECRET/KEY [UsageInvalid]\nhint: Use, for example, --secret npmrc=my-s',
        ),
        (
            ["create", "app", "--ssh=a=b"],
            'invalid --ssh value "a=b": not ID=SECRET/KEY [UsageInvalid]\nhint: Use, for example, --ssh default=my-key/',
        ),
        (
            ["create", "app", "--label=a"],
            'invalid --label value "a": not NAME=VALUE [UsageInvalid]\nhint: Use, for example, --label name=value.',
        ),
        (
            ["create", "app", "--inlin=Dockerfile", "more"],
            "unknown argument of create: --inlin=Dockerfile more [UsageInvalid]\nhint: See `kubectl imagewright create --help`.",
        ),
        (["gett"], 'unknown command "gett" [UsageInvalid]\nhint: Use one of create, get, '),
        (["get", "app", "-A"], 'name "app" cannot be combined with --all-namespaces [UsageInvalid]\nhint: Use a name'),
        (["get", "app", "-l", "a=b"], 'name "app" cannot be combined with --selector [UsageInvalid]\nhint: Use a name'),
    ],
)
def test_an_invalid_command_line(plugin: Plugin, words: list[str], said: str) -> None:
    done = plugin.run(*words)
    assert (done.returncode, done.stderr.partition(said)[0]) == (2, "error: ")


def test_a_missing_kubeconfig_is_named(plugin: Plugin, tmp_path: Path) -> None:
    done = plugin.run("get")
    assert done.returncode == 1
    assert done.stderr.startswith(f'error: kubeconfig "{tmp_path}/config" not found [Kuber')


def test_a_client_dry_run_checks_the_resources_types_and_lengths(plugin: Plugin) -> None:
    done = plugin.run("create", "app", "--dry-run", "--git=https://h/a.git", "-t=r.io/a:1", f"--target={'a' * 500}")
    assert (done.returncode, done.stdout) == (2, "")
    assert "error: spec.target: " in done.stderr
    assert "[InvalidSpec]" in done.stderr


def test_isolation_can_be_required(created: Created) -> None:
    assert created(pod(GIT), "--require-isolation")[0]["requireIsolation"] is True
    assert "requireIsolation" not in created(pod(GIT))[0]
