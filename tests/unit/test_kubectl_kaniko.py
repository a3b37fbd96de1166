"""Manifests that run kaniko, converted to ImageBuilds: those of tests/invocations and others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from imagebuilds.kanikopods import GIT, from_secret, mounted, pod
from imagebuilds.plugin import Plugin

from imagewright.errors import ImagewrightError
from imagewright_kubectl.kaniko import Conversion, convert, find_workload, workload_of_flags
from imagewright_operator.api import ImageBuild

INVOCATIONS = Path(__file__).parents[1] / "invocations"
LOGIN = {"pushSecretRef": {"name": "regcred"}}


def converted(manifest: str, *dropped: str, replaced: tuple[str, ...] = ()) -> Conversion:
    workload = find_workload(yaml.safe_load_all(manifest))
    made = convert(workload, frozenset(dropped), frozenset(replaced))
    ImageBuild.parse({"metadata": {"name": "app"}, "spec": made.spec})
    return made


def refused(manifest: str, *dropped: str) -> str:
    with pytest.raises(ImagewrightError) as error:
        converted(manifest, *dropped)
    return error.value.render()


SPECS: dict[str, tuple[list[str], dict[str, Any]]] = {
    "argo-workflow": (
        [],
        {
            "source": {"git": {"url": "git://git.example.com/team/app.git", "ref": {"branch": "main"}}},
            "output": {"tags": ["registry.example.com/argo/app:1"], **LOGIN},
        },
    ),
    "cloud-build": (
        [],
        {
            "source": {"configMap": {"name": "app"}},
            "output": {"tags": ["registry.example.com/cloudbuild/app:1"], **LOGIN},
            "cache": {"repository": "registry.example.com/cloudbuild/app/cache", "ttl": "6h"},
        },
    ),
    "tekton-task": (
        [],
        {
            "source": {"configMap": {"name": "app"}},
            "output": {"tags": ["registry.example.com/tekton/app:1"], **LOGIN},
        },
    ),
    "single-snapshot": (
        ["single-snapshot", "ignore-path"],
        {
            "source": {"configMap": {"name": "app"}},
            "output": {
                "tags": ["registry.example.com/arc/app:1"],
                "compression": "Zstd",
                "compressionLevel": 3,
                **LOGIN,
            },
            "platforms": ["linux/amd64"],
        },
    ),
    "warmed": (
        ["cache-dir"],
        {
            "source": {"configMap": {"name": "app"}},
            "output": {"tags": ["registry.example.com/warmed/app:1"], **LOGIN},
            "cache": {"repository": "registry.example.com/warmed/cache"},
        },
    ),
}


@pytest.mark.parametrize("name", SPECS)
def test_invocation_is_converted(name: str) -> None:
    dropped, spec = SPECS[name]
    assert converted((INVOCATIONS / f"{name}.yaml").read_text(), *dropped).spec == spec


REFUSALS = {
    "job": "--push-retry: not needed: |--context=/workspace/repository: it is on an emptyDir",
    "single-snapshot": "--single-snapshot: an ImageBuild has no such field|--ignore-path: |--drop single-snapshot --drop ignore-path",
    "standard-input": "--context=tar://…: an ImageBuild cannot read standard input",
    "warmed": "--cache-dir=/cache: not the root of a PersistentVolumeClaim",
    **dict.fromkeys(
        ["drone-plugin", "gitlab-ci", "gitlab-ci-ca", "gitlab-ci-cache", "gitlab-ci-spaces", "jenkins-pod"],
        "a shell script runs kaniko|create NAME -- --context=",
    ),
    **dict.fromkeys(["layout-and-login", "scan-before-push", "secret-and-dryrun"], "a shell script runs kaniko"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_invocation_is_refused_with_a_remedy(name: str) -> None:
    text = refused((INVOCATIONS / f"{name}.yaml").read_text())
    for words in REFUSALS[name].split("|"):
        assert words in text


def test_every_invocation_is_tested() -> None:
    assert {file.stem for file in INVOCATIONS.glob("*.yaml")} == set(SPECS) | set(REFUSALS)


def test_flags_replace_what_cannot_be_converted(plugin: Plugin) -> None:
    flags = ["--git=https://git.example.com/app.git", "--revision=refs/tags/v1", "--source-secret=git"]
    drops = [f"--drop={name}" for name in ("push-retry", "image-download-retry", "image-fs-extract-retry")]
    text = plugin.output("create", f"--from={INVOCATIONS / 'job.yaml'}", *flags, *drops, "--dry-run=client", "-o=yaml")
    made = yaml.safe_load(text)
    assert made["metadata"] == {"name": "job", "namespace": "team-a"}
    assert made["spec"] == {
        "source": {
            "git": {"url": "https://git.example.com/app.git", "ref": {"tag": "v1"}, "secretRef": {"name": "git"}}
        },
        "contextDir": "services/app",
        "output": {"tags": ["registry.example.com/job/app:1"], **LOGIN},
        "timeout": "10m",
        "retry": {"limit": 2},
        "podTemplate": {"resources": {"requests": {"memory": "128Mi"}, "limits": {"memory": "512Mi"}}},
    }


def test_flags_after_two_dashes_are_converted(plugin: Plugin) -> None:
    words = ["--context", "https://github.com/team/app", "-d", "registry.example.com/app:1", "--build-arg", "A=b c"]
    text = plugin.output("create", "app", "--dry-run", "--push-secret=regcred", "--", *words)
    assert yaml.safe_load(text)["spec"] == {
        "source": {"git": {"url": "https://github.com/team/app"}},
        "buildArgs": [{"name": "A", "value": "b c"}],
        "output": {"tags": ["registry.example.com/app:1"], **LOGIN},
    }


def test_flags_become_fields() -> None:
    flags = """--context-sub-path=services/api --dockerfile=docker/Dockerfile --target=runtime --label=a=b --annotation=c=d
    --destination=registry.example.com/app:2 --image-format=oci --reproducible --insecure --sandbox=namespace
    --require-isolation --registry-mirror=mirror.example.com --skip-default-registry-fallback
    --insecure-registry=plain.example.com --cache --cache-repo=registry.example.com/cache --cache-ttl=90m
    --git=depth=0,recurse-submodules=true""".split()
    assert converted(pod(GIT, *flags)).spec == {
        "source": {
            "git": {
                "url": "git://git.example.com/team/app.git",
                "ref": {"branch": "main"},
                "submodules": True,
                "depth": 0,
            }
        },
        "contextDir": "services/api",
        "dockerfile": "docker/Dockerfile",
        "target": "runtime",
        "output": {
            "tags": ["registry.example.com/app:1", "registry.example.com/app:2"],
            "labels": {"a": "b"},
            "annotations": {"c": "d"},
            "format": "OCI",
            "timestamp": "Zero",
            "insecure": True,
        },
        "cache": {"repository": "registry.example.com/cache", "ttl": "1h30m"},
        "registries": [
            {"host": "plain.example.com", "insecure": True},
            {"host": "docker.io", "mirrors": ["mirror.example.com"], "mirrorsOnly": True},
        ],
        "sandbox": "Namespace",
        "requireIsolation": True,
    }


def test_only_boolean_flags_can_be_off() -> None:
    assert (
        converted(pod(GIT, "--no-push=false", "--push-retry=0", "--single-snapshot=F")).spec == converted(pod(GIT)).spec
    )
    text = refused(pod(GIT, "--tar-path=false", "--ignore-path=0", "--oci-layout-path=f"))
    for name in ("tar-path", "ignore-path", "oci-layout-path"):
        assert f"  --{name}: " in text


def test_cache_flags_without_cache_are_noted() -> None:
    made = converted(pod(GIT, "--cache-repo=registry.example.com/cache", "--cache-ttl=6h"))
    assert "cache" not in made.spec
    for name in ("cache-repo", "cache-ttl"):
        assert f"ignored --{name}: kaniko caches no layers without --cache" in made.notes


@pytest.mark.parametrize(
    ("flags", "cache"),
    [
        (
            "--cache-repo=r.example.com/a --cache-from=r.example.com/b",
            {"repository": "r.example.com/a", "from": ["r.example.com/b"]},
        ),
        ("--cache-repo=r.example.com/a --no-push-cache", {"from": ["r.example.com/a"]}),
        (
            "--cache-from=r.example.com/a --cache-to=r.example.com/b",
            {"from": ["r.example.com/a"], "to": "r.example.com/b"},
        ),
        ("--cache-to=r.example.com/b", {"to": "r.example.com/b"}),
    ],
)
def test_caches_of_layers_become_fields(flags: str, cache: dict[str, Any]) -> None:
    assert converted(pod(GIT, "--cache", *flags.split())).spec["cache"] == cache


def test_a_cache_in_a_folder_is_an_error() -> None:
    text = refused(pod(GIT, "--cache", "--cache-from=oci:/cache"))
    assert "--cache-from=oci:/cache: an ImageBuild caches layers in a registry only" in text


def test_flags_that_name_a_cache_replace_a_converted_one(plugin: Plugin) -> None:
    words = [
        "--context",
        "https://github.com/team/app",
        "-d",
        "registry.example.com/app:1",
        "--cache",
        "--cache-repo=r.example.com/a",
    ]
    text = plugin.output("create", "app", "--dry-run", "--cache-from=r.example.com/b", "--cache-ttl=6h", "--", *words)
    assert yaml.safe_load(text)["spec"]["cache"] == {"from": ["r.example.com/b"], "ttl": "6h"}


@pytest.mark.parametrize(
    ("context", "source"),
    [
        ("git://h/a.git#refs/tags/v1", {"git": {"url": "git://h/a.git", "ref": {"tag": "v1"}}}),
        ("git://h/a.git#" + "a" * 40, {"git": {"url": "git://h/a.git", "ref": {"commit": "a" * 40}}}),
        ("git@h:a.git#main", {"git": {"url": "git@h:a.git", "ref": {"branch": "main"}}}),
        ("https://h/a.tar.gz", {"http": {"url": "https://h/a.tar.gz"}}),
        (
            "s3://b/k.tar.gz",
            {"s3": {"bucket": "b", "key": "k.tar.gz", "endpoint": "http://s3:9000", "pathStyle": True}},
        ),
        ("gs://b/k.tar.gz", {"gcs": {"bucket": "b", "object": "k.tar.gz"}}),
        (
            "https://x.blob.core.windows.net/c/a.tar.gz",
            {"azureBlob": {"url": "https://x.blob.core.windows.net/c/a.tar.gz"}},
        ),
        ("oci://registry.example.com/a:1", {"oci": {"image": "registry.example.com/a:1"}}),
    ],
)
def test_context_becomes_source(context: str, source: dict[str, Any]) -> None:
    env = [{"name": "S3_ENDPOINT", "value": "http://s3:9000"}, {"name": "S3_FORCE_PATH_STYLE", "value": "true"}]
    env = env if context.startswith("s3:") else []
    assert converted(pod(f"--context={context}", env=env)).spec["source"] == source


@pytest.mark.parametrize("path", ["-", "/dev/stdin", "/proc/self/fd/0"])
def test_a_dockerfile_from_standard_input_is_refused(path: str) -> None:
    says = refused(pod(GIT, f"--dockerfile={path}"))
    assert f"--dockerfile={path}: an ImageBuild cannot read standard input: put the Dockerfile into the context" in says
    assert "dockerfile" not in converted(pod(GIT, f"--dockerfile={path}"), "dockerfile").spec


def test_a_dockerfile_at_a_url_is_refused() -> None:
    manifest = pod(GIT, "--dockerfile=https://example.com/Dockerfile")
    assert (
        "--dockerfile=https://example.com/Dockerfile: an ImageBuild cannot read a URL: put the Dockerfile into the context"
        in refused(manifest)
    )
    assert "dockerfile" not in converted(manifest, "dockerfile").spec


def test_the_command_build_is_parsed_as_by_the_executor_image() -> None:
    words = ["build", "https://git.example.com/app.git", "-t", "r.example.com/a:1", "--tag=r.example.com/b:1"]
    made = converted(pod(args=[*words, "--target=app"]))
    assert made.spec["source"]["git"]["url"] == "https://git.example.com/app.git"
    assert made.spec["output"]["tags"] == ["r.example.com/a:1", "r.example.com/b:1"]
    assert made.spec["target"] == "app"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["https://git.example.com/app.git"], "unexpected argument"),
        ([GIT, "-t", "r.example.com/a:1"], "unknown flag -t"),
        ([GIT, "build"], 'unexpected argument "build"'),
    ],
)
def test_invalid_flags_of_kaniko_are_refused(words: list[str], says: str) -> None:
    assert says in refused(pod(*words))


def test_a_claim_is_converted_to_source_and_cache() -> None:
    claim = {"persistentVolumeClaim": {"claimName": "sources"}}
    manifest = pod(
        "--context=/src/app",
        "--dockerfile=/src/app/docker/Dockerfile",
        volumeMounts=[
            {"name": "s", "mountPath": "/src", "subPath": "checkout"},
            {"name": "c", "mountPath": "/cache"},
        ],
        volumes=[{"name": "s", **claim}, {"name": "c", "persistentVolumeClaim": {"claimName": "cache"}}],
    )
    spec = converted(manifest).spec
    assert spec["source"] == {"volume": {"claimName": "sources", "subPath": "checkout"}}
    assert (spec["contextDir"], spec["dockerfile"]) == ("app", "docker/Dockerfile")
    assert spec["cache"] == {"volume": {"claimName": "cache"}}


def test_git_logins_are_converted_to_secrets() -> None:
    env = [from_secret("GIT_USERNAME", "git", "username"), from_secret("GIT_PASSWORD", "git", "password")]
    spec = converted(pod(GIT, env=env)).spec
    assert spec["source"]["git"]["secretRef"] == {"name": "git"}
    assert "podTemplate" not in spec
    token = [from_secret("GIT_TOKEN", "git", "token")]
    assert converted(pod(GIT, env=token)).spec["podTemplate"]["env"] == token


def test_a_secret_in_the_manifest_is_refused_and_not_shown() -> None:
    text = refused(pod(GIT, env=[{"name": "GIT_TOKEN", "value": "s3cr3t"}]))
    assert "variable GIT_TOKEN: the manifest contains a secret: put it into a Secret" in text
    text += refused(pod("--context=https://me:s3cr3t@git.example.com/app.git"))
    assert "the URL contains credentials" in text
    assert "s3cr3t" not in text


@pytest.mark.parametrize("volume", ["secret", "projected", "subPath"])
def test_the_registry_login_is_converted_to_a_push_secret(volume: str) -> None:
    items = [{"key": ".dockerconfigjson", "path": "config.json"}]
    given = mounted("/kaniko/.docker/", secret={"secretName": "regcred", "items": items})
    if volume == "projected":
        given = mounted("/kaniko/.docker", projected={"sources": [{"secret": {"name": "regcred", "items": items}}]})
    if volume == "subPath":
        given = mounted("/kaniko/.docker/config.json", secret={"secretName": "regcred"})
        given["volumeMounts"][0]["subPath"] = ".dockerconfigjson"
    assert converted(pod(GIT, **given)).spec["output"]["pushSecretRef"] == {"name": "regcred"}


def test_a_login_of_another_form_is_refused_with_a_remedy() -> None:
    given = mounted("/kaniko/.docker", secret={"secretName": "regcred"})
    assert "--type=kubernetes.io/dockerconfigjson" in refused(pod(GIT, **given))
    assert "output" in converted(pod(GIT, **given), "/kaniko/.docker").spec
    helper = mounted("/kaniko/.docker", configMap={"name": "ecr"})
    assert "the engine uses a cloud's login by itself" in refused(pod(GIT, **helper))


def test_secrets_and_build_arguments() -> None:
    env = [
        {"name": "VERSION", "value": "1.2"},
        {"name": "URL", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "url"}}},
        from_secret("NPM_TOKEN", "npm", "token"),
        {"name": "NAME", "value": "app"},
    ]
    flags = ["--build-arg=VERSION", "--build-arg=URL", "--build-arg=NAME=$(NAME)-$$(x)", "--secret=id=NPM_TOKEN"]
    flags += ["--secret=id=pip,src=/secrets/pip.conf", "--ssh=default=/secrets/key"]
    spec = converted(pod(GIT, *flags, env=env, **mounted("/secrets", secret={"secretName": "files"}))).spec
    assert spec["buildArgs"] == [
        {"name": "VERSION", "value": "1.2"},
        {"name": "URL", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "url"}}},
        {"name": "NAME", "value": "app-$(x)"},
    ]
    assert spec["secrets"] == [
        {"id": "NPM_TOKEN", "secretKeyRef": {"name": "npm", "key": "token"}},
        {"id": "pip", "secretKeyRef": {"name": "files", "key": "pip.conf"}},
    ]
    assert spec["ssh"] == [{"id": "default", "secretKeyRef": {"name": "files", "key": "key"}}]
    assert "podTemplate" not in spec
    assert "the image's history would show it" in refused(pod(GIT, "--build-arg=NPM_TOKEN", env=env))
    assert "--build-arg X: the container has no variable X" in refused(pod(GIT, "--build-arg=X"))
    assert '"/tmp/token" does not refer to a key of a Secret' in refused(pod(GIT, "--secret=id=a,src=/tmp/token"))


def test_certificates_are_converted_to_references() -> None:
    manifest = pod(
        GIT,
        "--registry-certificate=registry.example.com=/ca/ca.crt",
        "--registry-client-cert=registry.example.com=/tls/tls.crt,/tls/tls.key",
        volumeMounts=[{"name": "ca", "mountPath": "/ca"}, {"name": "tls", "mountPath": "/tls"}],
        volumes=[
            {"name": "ca", "configMap": {"name": "authorities"}},
            {"name": "tls", "secret": {"secretName": "mine"}},
        ],
    )
    assert converted(manifest).spec["registries"] == [
        {
            "host": "registry.example.com",
            "caBundleRef": {"name": "authorities", "key": "ca.crt"},
            "clientCertificateSecretRef": {"name": "mine"},
        }
    ]
    ssl = mounted("/kaniko/ssl/certs", configMap={"name": "authorities"})
    assert "spec.output.caBundleRef" in refused(pod(GIT, **ssl))


def test_pod_settings_are_kept() -> None:
    settings = {
        "serviceAccountName": "builder",
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"key": "build", "operator": "Exists"}],
        "imagePullSecrets": [{"name": "pull"}],
        "priorityClassName": "low",
    }
    env = [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}, {"name": "LANG", "value": "C"}]
    secret = mounted("/secret", secret={"secretName": "gcloud"})
    made = converted(pod(GIT, pod=settings, env=env, securityContext={"runAsUser": 0, "privileged": True}, **secret))
    assert made.spec["podTemplate"] == {
        **settings,
        "env": env[:1],
        "volumes": [{"name": "v", "secret": {"secretName": "gcloud"}, "mountPath": "/secret"}],
    }
    assert "ignored the variable LANG: the engine does not read it" in made.notes
    assert "ignored securityContext.privileged: builds run without privilege" in made.notes


def test_kinds_of_manifest() -> None:
    template = yaml.safe_load(pod(GIT))["spec"]
    expected = converted(pod(GIT)).spec
    job = {"activeDeadlineSeconds": 5400, "ttlSecondsAfterFinished": 60, "template": {"spec": template}}
    limits = {"timeout": "1h30m", "retention": {"podTTL": "1m"}}
    assert converted(yaml.safe_dump({"kind": "Job", "spec": job})).spec == {**expected, **limits}
    cron = converted(yaml.safe_dump({"kind": "CronJob", "spec": {"jobTemplate": {"spec": job}}}))
    assert cron.spec == {**expected, **limits}
    assert any("no schedule" in note for note in cron.notes)
    container = template["containers"][0]
    task = {"kind": "Task", "spec": {"steps": [{"name": "git", "image": "git", "script": "git clone"}, container]}}
    workflow = {"kind": "Workflow", "spec": {"templates": [{"name": "build", "container": container}]}}
    for body in (task, workflow, container, [container], {"kind": "List", "items": [{"kind": "Secret"}, task]}):
        assert converted(yaml.safe_dump(body)).spec == expected


def test_parameters_of_a_task_need_values() -> None:
    args = [
        "--dockerfile=$(params.DOCKERFILE)",
        "--context=$(workspaces.source.path)/./",
        "--destination=$(params.IMAGE)",
    ]
    args += ["$(params.EXTRA_ARGS)"]
    manifest = yaml.safe_dump({"kind": "Task", "spec": {"steps": [{"image": "$(params.BUILDER)", "args": args}]}})
    text = refused(manifest)
    assert "dockerfile: the manifest has no value for $(params.DOCKERFILE): write the value" in text
    dropped = ("dockerfile", "$(params.EXTRA_ARGS)")
    made = converted(manifest, *dropped, replaced=("context", "destination"))
    assert "source" not in made.spec


def test_invalid_manifests() -> None:
    assert "no container runs kaniko" in refused("kind: Pod\nspec: {containers: [{name: a, image: nginx}]}")
    assert "it is an ImageBuild" in refused("kind: ImageBuild")
    assert "not a YAML mapping" in refused("kaniko")
    assert '2 run kaniko: "kaniko", "kaniko"' in refused(pod(GIT) + "---\n" + pod(GIT))
    assert "unknown flag --destinaton" in refused(pod("--destinaton=x"))
    assert 'invalid command of container "kaniko": not a list of strings' in refused(
        pod(GIT, command="/kaniko/executor")
    )
    with pytest.raises(ImagewrightError) as error:
        convert(workload_of_flags([GIT]))
    assert "--destination: missing: name the image to push" in error.value.render()


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"env": [{"name": "A", "value": 1}]}, "kaniko.env[0].value: input should be a valid string"),
        ({"env": [None]}, "kaniko.env[0]: input should be a mapping"),
        ({"volumes": [{"name": "v", "secret": "s"}]}, "volumes[0].secret: input should be a mapping"),
        ({"pod": {"activeDeadlineSeconds": True}}, "spec.activeDeadlineSeconds: input should be a valid integer"),
        ({"resources": {"limits": ["1Gi"]}}, "kaniko.resources.limits: input should be a valid dictionary"),
    ],
)
def test_a_field_of_the_wrong_type_is_named(wrong: dict[str, Any], error: str) -> None:
    assert refused(pod(GIT, **wrong)).startswith(f"error: invalid manifest: {error} [UsageInvalid]\nhint: ")
