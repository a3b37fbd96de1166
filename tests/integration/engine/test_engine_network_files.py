"""Images whose files of name resolution are no ordinary ones, in the runner: commands run, and the layers have nothing
of the engine's.

The images are data: ``tests/hostile/network-files.json``.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from containers.container import REPOSITORY, Entries, Layer, archive, layers_of
from containers.pod import Pod, empty_pod

pytestmark = [pytest.mark.root]
IMAGES = json.loads((REPOSITORY / "tests/hostile/network-files.json").read_text().replace("%LONG%", "x" * 300))
# Writes through every name, but to the runner's programs: nothing of it is what a later command or the engine finds.
STAGE = """
FROM base AS stage-{number}
ADD image.tar{number} /
RUN for each in resolv.conf hosts hostname; do \\
      case "$(readlink -f /etc/$each)" in /imagewright/*) ;; *) echo attack >/etc/$each; esac; \\
    done 2>/dev/null; test -c /dev/null
RUN test -c /dev/null && test ! -s /dev/null && cat /proc/version >/dev/null && echo done >/done-{number}
"""


@pytest.fixture
def pod(tmp_path: Path) -> Pod:
    return empty_pod(tmp_path / "pod")


def test_commands_run_whatever_the_image_has_there(pod: Pod) -> None:
    """Each image is a stage: they are built one after the other in the runner's one root."""
    numbers = range(len(IMAGES))
    dockerfile = "".join(STAGE.format(number=number) for number in numbers) + "\nFROM base\n"
    dockerfile += "".join(f"COPY --from=stage-{number} /done-{number} /\n" for number in numbers)
    context = pod.context(dockerfile)
    for number in numbers:
        (context / f"image.tar{number}").write_bytes(archive(IMAGES[number]["image"]))
    pod.execute(pod.request(context))
    assert pod.code == 0, pod.log


@pytest.mark.parametrize("path", ["etc/hosts", "etc/resolv.conf", "etc/hostname"])
def test_changes_below_a_directory_of_that_name_are_in_the_image(pod: Pod, path: str) -> None:
    """It is not covered: what a command makes of it belongs to the image."""
    layers = pod.build(f"FROM base\nCOPY one /{path}/inside\nRUN echo two >/{path}/inside\n", {"one": "one\n"})
    assert layers[-1].contents == {f"{path}/inside": "two\n"}


def add_links(pod: Pod, links: Entries, commands: str) -> list[Layer]:
    """The layers of an image with these entries, which no command could make: it finds the engine's file there."""
    context = pod.context(f"FROM base\nADD links.tar /\n{commands}")
    (context / "links.tar").write_bytes(archive(links))
    pod.execute(pod.request(context))
    assert pod.code == 0, pod.log
    return layers_of(pod.layout)


def test_a_covered_file_that_a_link_leads_to_is_unchanged(pod: Pod) -> None:
    links = {"etc/hosts": "-> /opt/hosts", "opt/hosts": "mine"}
    layers = add_links(pod, links, "RUN ! grep mine /etc/hosts && echo attack >/opt/hosts\nRUN echo x >/x\n")
    assert [sorted(layer.contents) for layer in layers[-2:]] == [["opt/hosts"], ["x"]], "the first RUN has no layer"


def test_a_missing_file_that_a_link_leads_to_is_found(pod: Pod) -> None:
    """Debian's images with systemd have such a link."""
    links = {"etc/resolv.conf": "-> ../run/systemd/resolve/stub-resolv.conf"}
    layers = add_links(pod, links, "RUN cat /etc/resolv.conf >/seen\n")
    assert layers[-1].contents == {"seen": Path("/etc/resolv.conf").read_text()}
    assert list(layers[-1].entries) == ["seen"]
