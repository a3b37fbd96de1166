"""Whole builds by the command line, against a real registry."""

from __future__ import annotations

import json
import re
import subprocess
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Engine  # pytest gives it; only its name is needed here

pytestmark = [pytest.mark.root, pytest.mark.registry]


def layer_names(layout: Path, digest: str) -> list[str]:
    with tarfile.open(layout / "blobs" / "sha256" / digest.partition(":")[2]) as tar:
        return [member.name for member in tar]


def test_each_step_makes_a_layer_of_its_changes(engine: Engine) -> None:
    built = engine.image(
        "FROM busybox\n"
        "RUN mkdir -p /a/b && echo one >/a/b/file && echo two >/a/other\n"
        "RUN rm /a/b/file && true\n"
        "RUN true\n"
        "COPY f /copied/\n"
        "WORKDIR /work/here\n"
        'CMD ["sh"]\n',
        {"f": "content"},
    )
    layers = [layer_names(built.layout, layer["digest"]) for layer in built.manifest["layers"][1:]]
    assert layers == [
        ["a", "a/b", "a/b/file", "a/other"],
        ["a", "a/b", "a/b/.wh.file"],
        ["copied", "copied/f"],
        ["work", "work/here"],
    ]
    assert built.history[-6:] == [
        ("RUN /bin/sh -c mkdir -p /a/b && echo one >/a/b/file && echo two >/a/other # buildkit", True),
        ("RUN /bin/sh -c rm /a/b/file && true # buildkit", True),
        ("RUN /bin/sh -c true # buildkit", False),
        ("COPY f /copied/ # buildkit", True),
        ("WORKDIR /work/here", True),
        ('CMD ["sh"]', False),
    ]
    assert len(built.config["rootfs"]["diff_ids"]) == len(built.manifest["layers"])
    assert built.config["config"]["WorkingDir"] == "/work/here"


def test_the_environment_of_a_run(engine: Engine) -> None:
    built = engine.build(
        engine.context(
            "FROM busybox\nARG A=1\nENV B=2\nRUN echo me:x:1234:1234::/home/me:/bin/sh >>/etc/passwd\nWORKDIR /w\nUSER me\n"
            'RUN echo "$A $B $HOME $(id -u) $(pwd) $(umask)" && env | sort && ls -ld .\n'
        ),
        "--build-arg=A=x",
    )
    assert built.code == 0, built.stderr
    assert "| x 2 /home/me 1234 /w 0022" in built.stderr
    assert "imagewright" not in "".join(line for line in built.stderr.splitlines() if "| " in line).lower()


def test_targets_and_unneeded_stages(engine: Engine) -> None:
    dockerfile = (
        "FROM busybox AS first\nRUN echo first >/first\n"
        "FROM busybox AS never\nRUN false\n"
        "FROM first AS second\nRUN echo second >/second && cat /first\n"
        "FROM scratch AS third\nCOPY --from=second /first /second /\nCOPY --from=busybox /bin/busybox /bin/\n"
    )
    third = engine.image(dockerfile)
    assert [layer_names(third.layout, layer["digest"]) for layer in third.manifest["layers"]] == [
        ["first", "second"],
        ["bin", "bin/busybox"],
    ]
    second = engine.build(engine.context(dockerfile), "--target=second")
    assert len(second.manifest["layers"]) == 3
    assert "third" not in second.stderr
    by_number = engine.build(engine.context(dockerfile), "--target=0")
    assert len(by_number.manifest["layers"]) == 2


def test_a_stage_that_is_both_base_and_source_keeps_its_files(engine: Engine) -> None:
    built = engine.image(
        "FROM busybox AS a\nRUN echo a >/a\nFROM a AS b\nRUN echo b >/b && rm /a\n"
        "FROM busybox\nCOPY --from=a /a /x/\nCOPY --from=b /b /x/\nRUN cat /x/a /x/b\n"
    )
    assert "| a" in built.stderr


def test_a_single_existing_source_of_several_is_warned_about(engine: Engine) -> None:
    context = engine.context(
        "FROM scratch\nCOPY a nothing* /dest\nCOPY a nothing* /folder/\nCOPY a a /folder\nCOPY nothing* no* /none\n"
        "ARG SOMEWHERE=/some/where\nCOPY a nothing* $SOMEWHERE\n"
    )
    (context / "a").write_text("a")
    built = engine.build(context)
    assert built.code == 0, built.stderr
    assert [line for line in built.stderr.splitlines() if "only one of the sources" in line] == [
        f'warning: Dockerfile:{line}:1: only one of the sources exists, so "{destination}" is a file; '
        f'write "{destination}/" to copy into a folder in any case'
        for line, destination in ((2, "/dest"), (7, "$SOMEWHERE"))
    ]


def test_a_build_of_only_metadata_pulls_no_layer(engine: Engine) -> None:
    built = engine.build(engine.context("FROM debian\nENV A=b\nLABEL c=d\nCMD echo\n"), "--verbosity=debug")
    assert built.code == 0, built.stderr
    before_push = built.stderr.partition("wrote OCI layout")[0]
    assert "done in" not in before_push
    assert built.config["config"]["Labels"] == {"c": "d"}


def test_many_destinations_archive_digest_file_and_labels(engine: Engine, base_registry: str) -> None:
    context = engine.context("FROM busybox\nRUN echo x >/x\n")
    archive, digest = engine.folder / "image.tar", engine.folder / "out" / "digest"
    other = f"{base_registry}/other/name:2"
    built = engine.build(
        context, f"--destination={other}", f"--tar-path={archive}", f"--digest-file={digest}", "--label=a=b"
    )
    assert built.code == 0, built.stderr
    assert digest.read_text() == built.digest
    assert built.stdout.splitlines() == [f"{built.name}@{built.digest}", f"{other}@{built.digest}"]
    for name in (built.name, other):
        raw = subprocess.run(
            ["skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{name}"], check=True, capture_output=True
        ).stdout
        assert json.loads(raw) == built.manifest
    inspected = subprocess.run(
        ["skopeo", "inspect", f"docker-archive:{archive}"], check=True, capture_output=True, text=True
    ).stdout
    assert json.loads(inspected)["Labels"] == {"a": "b"}


def test_the_same_input_gives_the_same_digest(engine: Engine) -> None:
    context = engine.context("FROM busybox\nRUN echo x >/x && mkdir /d\nCOPY . /c/\n", {"f": "1", "g/h": "2"})
    first = engine.build(context, "--build-arg=SOURCE_DATE_EPOCH=1700000000")
    (context / "f").touch()
    second = engine.build(context, env={"SOURCE_DATE_EPOCH": "1700000000", "TZ": "Asia/Tokyo"})
    assert first.code == second.code == 0
    assert first.digest == second.digest
    assert first.config["created"] == "2023-11-14T22:13:20Z"


def test_nothing_of_the_sandbox_enters_a_layer(engine: Engine) -> None:
    built = engine.image(
        "FROM scratch\nCOPY --from=busybox /bin /bin\nRUN echo x >/x && ls /proc/self /sys /dev/null /etc/hosts\n"
    )
    assert layer_names(built.layout, built.manifest["layers"][-1]["digest"]) == ["x"]


def test_onbuild_of_a_base_runs_in_the_child(engine: Engine, base_registry: str) -> None:
    built = engine.image("FROM busybox\nONBUILD RUN echo trigger >/trigger\nONBUILD ENV T=1\n")
    child = engine.build(engine.context(f"FROM {built.name}\nRUN cat /trigger\n"))
    assert child.code == 0, child.stderr
    assert "| trigger" in child.stderr
    assert "OnBuild" not in child.config["config"]
    assert "T=1" in child.config["config"]["Env"]


@pytest.mark.parametrize(
    ("dockerfile", "code", "reason", "says"),
    [
        ("FROM busybox\nRUN echo out; exit 3\n", 7, "StepFailed", "exit code 3"),
        ("FROM busybox\nRUN [\"/nothing\"]\n", 7, "StepFailed", "exit code 127"),
        ("FROM busybox\nRUN kill -9 $$\n", 7, "StepFailed", "signal 9"),
        ("FROM busybox\nCOPY nothing /\n", 4, "FileNotFound", '"/nothing" not found in the build context'),
        ("FROM busybox\nCOPY --from=debian /nothing /\n", 4, "FileNotFound", "/nothing"),
        ("FROM busybox\nCOPY --chown=nobody-here Dockerfile /\n", 4, "FileNotFound", "nobody-here"),
        ("FROM busybox\nUSER ghost\nRUN id\n", 4, "FileNotFound", "ghost"),
        ("FROM nothing:here\n", 5, "BaseImagePullFailed", "nothing:here"),
        ("FROM busybox\nRUM echo\n", 3, "DockerfileInvalid", "RUN"),
        ("# check=error=true\nFROM busybox\nCMD x\n", 3, "LintFailed", "JSONArgsRecommended"),
        ("# check=skpi=all\nFROM busybox\n", 3, "DockerfileInvalid", "Did you mean skip?"),
        ("FROM busybox\nRUN --security=insecure true\n", 2, "NotSupported", "--security"),
    ],
)  # fmt: skip
def test_an_error_has_a_reason_a_location_and_a_hint(
    engine: Engine, dockerfile: str, code: int, reason: str, says: str
) -> None:
    built = engine.build(engine.context(dockerfile))
    assert built.code == code, built.stderr
    assert f"[{reason}]" in built.stderr
    assert says in built.stderr
    assert "--> Dockerfile:" in built.stderr
    assert not built.layout.exists()


def test_a_failing_run_shows_its_instruction_and_last_output(engine: Engine) -> None:
    built = engine.build(
        engine.context("FROM busybox\nENV A=1\nRUN echo before && sh -c 'echo last words; exit 9'\nRUN true\n")
    )
    end = built.stderr.partition("error: ")[2]
    for line in ("FROM busybox", "ENV A=1", "RUN true", "before", "last words", "exit code 9"):
        assert line in end


def test_a_cancelled_build_leaves_nothing_behind(engine: Engine) -> None:
    import os
    import signal
    import sys
    import time

    context = engine.context("FROM busybox\nRUN echo begun; sleep 3600\n")
    command = [sys.executable, "-m", "imagewright", "build", f"--context={context}", "--no-push",
               f"--registry-endpoint=docker.io={engine.host}", f"--work-dir={engine.folder / 'work'}"]  # fmt: skip
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "| begun" in line:
                break
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        assert children
        os.kill(process.pid, signal.SIGTERM)
        rest = process.stderr.read()
    assert process.returncode == 130
    assert "[Cancelled]" in rest
    assert re.search(r"^  stopped after [\d.]+ s$", rest, re.M), "the step that it ended is not done"
    assert not list((engine.folder / "work").glob("*"))
    time.sleep(0.1)
    assert not any(Path(f"/proc/{child}").exists() for child in children)


def test_a_work_folder_without_space_is_a_full_disk(engine: Engine, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", str(small)], check=True)
    try:
        context = engine.context("FROM debian\nRUN true\n")
        built = engine.build(context, f"--work-dir={small}")
        assert built.code == 1
        assert "[DiskFull]" in built.stderr
        assert not list(small.glob("imagewright-*"))
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_the_plan_is_printed_without_building(engine: Engine) -> None:
    import sys

    context = engine.context("FROM busybox AS a\nRUN false\nFROM a\nCOPY x /y\n")
    done = subprocess.run(
        [sys.executable, "-m", "imagewright", "plan", f"--context={context}", f"--registry-endpoint=docker.io={engine.host}"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert "RUN" in done.stdout
    assert "COPY" in done.stdout


def test_a_stage_that_is_only_copied_from_makes_no_layer(engine: Engine) -> None:
    built = engine.image("FROM busybox AS made\nRUN echo x >/x\nFROM scratch\nCOPY --from=made /x /\n")
    made, _, final = built.stderr.partition("COPY --from=made")
    assert "layer of" not in made
    assert "layer of" in final


def test_a_named_context_can_be_an_image_of_an_oci_layout(engine: Engine) -> None:
    """As a base with its configuration, and for COPY --from, without contacting a registry."""
    base = engine.image("FROM busybox\nENV FROM_LAYOUT=yes\nRUN echo text >/file\n")
    flag = f"--build-context=mine=oci-layout://{base.layout}"
    built = engine.image(
        "FROM mine\nRUN test $FROM_LAYOUT = yes && cp /file /copy\nCOPY --from=mine /file /again\n", {}, flag
    )
    assert built.manifest["layers"][: len(base.manifest["layers"])] == base.manifest["layers"]
    assert "FROM_LAYOUT=yes" in built.config["config"]["Env"]
    wrong = engine.build(engine.context("FROM mine\n"), f"--build-context=mine=oci-layout://{base.layout}:nothing")
    assert wrong.code == 4
    assert "no image called nothing" in wrong.stderr
    assert "Dockerfile:1" in wrong.stderr
    blob = base.layout / "blobs" / "sha256" / base.manifest["config"]["digest"].partition(":")[2]
    blob.write_bytes(blob.read_bytes().replace(b"yes", b"not"))
    damaged = engine.build(engine.context("FROM mine\n"), flag)
    assert damaged.code != 0
    assert "has another digest or size" in damaged.stderr
