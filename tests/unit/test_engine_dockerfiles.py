"""Where a Dockerfile is read from, which .dockerignore applies, and the error if there is none."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from imagewright.context.fetch import FetchedContext
from imagewright.contract.request import BuildRequest, ContextSettings, PlanSettings
from imagewright.contract.sources import DirectorySource
from imagewright.engine.source.inputs import Inputs, read_inputs
from imagewright.errors import DockerfileError, Reason
from imagewright.streams import own_descriptor

TEXT = "FROM scratch\n"


def write(folder: Path, *names: str, text: str = TEXT) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.fixture(autouse=True)
def nowhere(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty working directory, where a Dockerfile is looked for, too."""
    monkeypatch.chdir(tmp_path_factory.mktemp("nowhere"))


@pytest.fixture
def context(tmp_path: Path) -> Path:
    """Its .dockerignore excludes ``of-context``, that of build/app.Dockerfile ``of-dockerfile``."""
    folder = tmp_path / "context"
    write(folder, "build/app.Dockerfile")
    write(folder, ".dockerignore", text="of-context\n")
    write(folder, "build/app.Dockerfile.dockerignore", text="of-dockerfile\n")
    return folder


def read(context: Path, dockerfile: str | Path, context_dir: str = ".") -> Inputs:
    source = DirectorySource(path=str(context))
    request = BuildRequest(
        context=ContextSettings(source=source, directory=context_dir), plan=PlanSettings(dockerfile=str(dockerfile))
    )
    return read_inputs(request, FetchedContext(str(context)), lambda url, max_bytes: TEXT.encode())


def hidden(inputs: Inputs) -> str:
    (name,) = [name for name in ("of-context", "of-dockerfile") if inputs.ignore.ignores(name)]
    return name


def fails(context: Path, dockerfile: str | Path) -> DockerfileError:
    with pytest.raises(DockerfileError) as caught:
        read(context, dockerfile)
    return caught.value


@contextmanager
def piped(content: bytes) -> Iterator[str]:
    """The path of an inheritable pipe, as a shell creates for ``<(…)``."""
    reading, writing = os.pipe()
    os.set_inheritable(reading, True)
    with open(writing, "wb") as stream:
        stream.write(content)
    yield f"/dev/fd/{reading}"
    os.close(reading)


# --- which .dockerignore


def test_a_path_in_the_context(context: Path) -> None:
    assert hidden(read(context, "build/app.Dockerfile")) == "of-dockerfile"
    assert hidden(read(context, "./build/../build/app.Dockerfile")) == "of-dockerfile"


def test_an_absolute_path_in_the_context(context: Path) -> None:
    inputs = read(context, context / "build/app.Dockerfile")
    assert hidden(inputs) == "of-dockerfile"
    assert inputs.dockerfile.name == str(context / "build/app.Dockerfile")


def test_an_absolute_path_in_a_context_behind_a_link(context: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(context)
    assert hidden(read(context, tmp_path / "link/build/app.Dockerfile")) == "of-dockerfile"
    assert hidden(read(tmp_path / "link", context / "build/app.Dockerfile")) == "of-dockerfile"


def test_an_absolute_path_outside_the_context(context: Path, tmp_path: Path) -> None:
    write(tmp_path, "elsewhere/app.Dockerfile")
    path = tmp_path / "elsewhere/app.Dockerfile"
    assert hidden(read(context, path)) == "of-context"
    write(tmp_path, "elsewhere/app.Dockerfile.dockerignore", text="of-dockerfile\n")
    assert hidden(read(context, path)) == "of-dockerfile"


def test_a_folder_with_the_contexts_name_as_prefix_is_outside(context: Path, tmp_path: Path) -> None:
    write(tmp_path, "context-too/Dockerfile")
    assert hidden(read(context, tmp_path / "context-too/Dockerfile")) == "of-context"


def test_a_path_above_the_context_subdirectory(context: Path) -> None:
    write(context, "sub/.dockerignore", text="of-context\n")
    assert hidden(read(context, context / "build/app.Dockerfile", context_dir="sub")) == "of-dockerfile"


def test_a_path_relative_to_the_working_directory(
    context: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "elsewhere/app.Dockerfile")
    write(tmp_path, "elsewhere/app.Dockerfile.dockerignore", text="of-dockerfile\n")
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert hidden(read(context, "app.Dockerfile")) == "of-dockerfile"


def test_urls_and_pipes_have_no_dockerignore_of_their_own(context: Path, tmp_path: Path) -> None:
    assert hidden(read(context, "https://example.com/build/app.Dockerfile")) == "of-context"
    with piped(TEXT.encode()) as path:
        assert hidden(read(context, path)) == "of-context"
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    write(tmp_path, "fifo.dockerignore", text="of-dockerfile\n")
    writer = threading.Thread(target=lambda: fifo.write_text(TEXT))
    writer.start()
    inputs = read(context, fifo)
    writer.join()
    assert hidden(inputs) == "of-context"


def test_an_empty_dockerignore_replaces_that_of_the_context(context: Path) -> None:
    write(context, "build/app.Dockerfile.dockerignore", text="")
    assert not read(context, context / "build/app.Dockerfile").ignore.ignores("of-context")


@pytest.mark.parametrize("name", [".dockerignore", "Dockerfile.dockerignore"])
def test_an_unreadable_dockerignore_is_an_error(context: Path, name: str) -> None:
    write(context, "Dockerfile")
    (context / name).unlink(missing_ok=True)
    (context / name).symlink_to(name)  # a loop, which root cannot read either
    error = fails(context, "Dockerfile")
    assert error.message == f'cannot read "{name}": Too many levels of symbolic links'


# --- pipes


def test_a_process_substitution(context: Path) -> None:
    with piped(b"FROM scratch\nLABEL a=b\n") as path:
        inputs = read(context, path)
    assert inputs.lines == ("FROM scratch", "LABEL a=b")
    assert inputs.dockerfile.name == path


@pytest.mark.parametrize("form", ["/dev/fd/{}", "/proc/self/fd/{}", "/proc/thread-self/fd/{}", "//dev/./fd/{}"])
def test_all_paths_of_a_descriptor(context: Path, form: str) -> None:
    with piped(TEXT.encode()) as path:
        assert read(context, form.format(path.rpartition("/")[2])).lines == ("FROM scratch",)


@pytest.mark.parametrize(
    ("path", "descriptor"),
    [
        ("/dev/stdin", 0),
        ("/dev/fd/0", 0),
        ("/proc/self/fd/63", 63),
        ("/proc/OWN/fd/3", 3),
        ("/proc/OTHER/fd/3", None),
        ("/proc/self/fd/", None),
        ("/proc/self/fdinfo/0", None),
        ("/dev/fd/0/x", None),
        ("/dev/fd/9999999999", None),
        ("dev/stdin", None),
        ("-", None),
        ("/dev/null", None),
    ],
)
def test_which_paths_are_descriptors(path: str, descriptor: int | None) -> None:
    path = path.replace("OWN", str(os.getpid())).replace("OTHER", str(os.getpid() + 1))
    assert own_descriptor(path) == descriptor


def test_a_file_behind_a_descriptor(context: Path) -> None:
    with open(context / "build/app.Dockerfile") as file:
        os.set_inheritable(file.fileno(), True)
        assert read(context, f"/dev/fd/{file.fileno()}").lines == ("FROM scratch",)


def test_an_empty_pipe(context: Path) -> None:
    with piped(b"") as path:
        error = fails(context, path)
    assert error.message == f"cannot read the Dockerfile from {path}: it is empty"
    assert "command" in error.hint


def test_an_endless_pipe(context: Path) -> None:
    with open("/dev/zero", "rb") as zero:
        os.set_inheritable(zero.fileno(), True)
        assert fails(context, f"/dev/fd/{zero.fileno()}").reason is Reason.LIMIT_EXCEEDED
    assert fails(context, "/dev/zero").reason is Reason.LIMIT_EXCEEDED


def test_a_descriptor_that_was_not_passed_on_is_not_read(context: Path) -> None:
    reading, writing = os.pipe()  # not inheritable
    os.close(writing)
    error = fails(context, f"/dev/fd/{reading}")
    os.close(reading)
    assert error.message == f'cannot read "/dev/fd/{reading}": Bad file descriptor'


@contextmanager
def written_repeatedly(fifo: Path) -> Iterator[None]:
    """Write a Dockerfile into a pipe whenever it is opened for reading."""
    done = threading.Event()

    def write_again() -> None:
        while not done.is_set():
            with suppress(BrokenPipeError):
                fifo.write_text(TEXT)

    writer = threading.Thread(target=write_again)
    writer.start()
    try:
        yield
    finally:
        done.set()
        reading = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
        writer.join()
        os.close(reading)


def test_a_pipe_in_the_context_is_refused(context: Path) -> None:
    os.mkfifo(context / "Dockerfile")
    with written_repeatedly(context / "Dockerfile"):
        for path in ("Dockerfile", context / "Dockerfile"):
            error = fails(context, path)
            assert error.message == f'cannot read "{path}": not a regular file'
            assert "build/app.Dockerfile" in error.hint


# --- links


def test_links_do_not_lead_out_of_the_context_or_a_folder(context: Path, tmp_path: Path) -> None:
    write(tmp_path, "secret", text="FROM the-secret\n")
    (context / "Dockerfile").symlink_to("../secret")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/Dockerfile").symlink_to("../secret")
    for path, root in (
        ("Dockerfile", "the build context"),
        (context / "Dockerfile", "the build context"),
        (tmp_path / "elsewhere/Dockerfile", f'"{tmp_path}/elsewhere"'),
    ):
        error = fails(context, path)
        assert error.message == f'cannot read "{path}": the symbolic link has no target in {root}'
        assert error.reason is Reason.DOCKERFILE_NOT_FOUND
        assert "the-secret" not in error.render()


def test_a_link_to_another_folder_of_the_context(context: Path, tmp_path: Path) -> None:
    (context / "sub").mkdir()
    (context / "sub/Dockerfile").symlink_to("../build/app.Dockerfile")
    assert read(context, "sub/Dockerfile").lines == ("FROM scratch",)
    assert read(context, context / "sub/Dockerfile").lines == ("FROM scratch",)
    (tmp_path / "link").symlink_to(context)
    assert read(context, tmp_path / "link/sub/Dockerfile").lines == ("FROM scratch",)


# --- no Dockerfile

ADVICE = "Name it with --dockerfile (ImageBuild: spec.dockerfile), relative to the context."


@pytest.mark.parametrize(
    ("there", "asked", "hint"),
    [
        (["docker/Dockerfile"], "Dockerfile", "Did you mean docker/Dockerfile?"),
        (["build/app.Dockerfile"], "build/app.dockerfile", "Did you mean build/app.Dockerfile?"),
        (["Dockerfile"], "Dockerfile.prod", "Did you mean Dockerfile?"),
        (["Containerfile", "x"], "Containerfil", "Did you mean Containerfile?"),
        (["a/image.txt", "b"], "image.txt", "Did you mean a/image.txt?"),
        (["Dockerfile.dockerignore"], "Dockerfile", f"{ADVICE} The context contains {{}}."),
        (["src/main.go", "README.md"], "Dockerfile", f"{ADVICE} The context contains README.md, src/."),
        ([], "Dockerfile", f"{ADVICE} The context is empty."),
        (["web/Dockerfile"], "x", f"{ADVICE} Found: web/Dockerfile."),
        (
            ["app/Dockerfile", "web/Dockerfile", "api/Dockerfile"],
            "apo/Dockerfile",
            "Did you mean api/Dockerfile? Also found: app/Dockerfile, web/Dockerfile.",
        ),
        (
            [f"{n}/Dockerfile" for n in range(9)],
            "Dockerfile",
            "Did you mean 0/Dockerfile? Also found: 1/Dockerfile, 2/Dockerfile, 3/Dockerfile, 4/Dockerfile, 5/Dockerfile"
            " and 3 more.",
        ),
        (["bad\x1b[2J/Dockerfile", "a"], "Dockerfile", f"{ADVICE} The context contains a and 1 more."),
    ],
)  # fmt: skip
def test_the_hint_lists_candidates_of_the_context(tmp_path: Path, there: list[str], asked: str, hint: str) -> None:
    write(tmp_path, *there)
    for path in (asked, tmp_path / asked):
        error = fails(tmp_path, path)
        assert error.message.startswith(f'cannot find Dockerfile "{path}"')
        assert error.reason is Reason.DOCKERFILE_NOT_FOUND
        assert error.hint == hint.format(", ".join(there))


def test_the_hint_for_a_folder_lists_its_files(tmp_path: Path) -> None:
    write(tmp_path, "build/app.Dockerfile", "web/Dockerfile")
    error = fails(tmp_path, "build")
    assert error.hint == "Did you mean build/app.Dockerfile? Also found: web/Dockerfile."


def test_the_hint_lists_siblings_of_a_path_outside(tmp_path: Path) -> None:
    write(tmp_path, "context/a", "elsewhere/app.Dockerfile", "elsewhere/other")
    error = fails(tmp_path / "context", tmp_path / "elsewhere/app.dockerfile")
    assert error.hint == f"Did you mean {tmp_path}/elsewhere/app.Dockerfile?"


def test_only_part_of_a_large_context_is_searched(tmp_path: Path) -> None:
    for number in range(5001):
        (tmp_path / f"{number:04}").touch()
    (tmp_path / "zz").mkdir()
    write(tmp_path, "zz/Dockerfile")
    hint = fails(tmp_path, "Dockerfile").hint
    assert "zz/Dockerfile" not in hint
    assert "more." in hint
