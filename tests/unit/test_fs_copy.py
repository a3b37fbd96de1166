"""COPY and ADD: destinations and attributes, as in BuildKit. Owners are the caller's own, so that it needs no root."""

from __future__ import annotations

import contextlib
import io
import os
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from archives.tars import Item, directory, hardlink, make_tar, symlink

from imagewright.dockerfile.ignore import IgnorePatterns
from imagewright.errors import FileSystemError, Reason
from imagewright.fs.copy.copier import CopyRequest, copy
from imagewright.fs.copy.mode import ModeChange
from imagewright.fs.layer.changes import Changes
from imagewright.fs.rootfs.attributes import Ownership
from imagewright.fs.rootfs.root import Rootfs

ME = Ownership(os.getuid(), os.getgid())
Copy = Callable[..., Changes]


@pytest.fixture
def context(tmp_path: Path) -> Path:
    directory = tmp_path / "context"
    directory.mkdir()
    return directory


@pytest.fixture
def root(tmp_path: Path) -> Path:
    directory = tmp_path / "root"
    directory.mkdir()
    return directory


@pytest.fixture
def run(context: Path, root: Path) -> Copy:
    def do(
        *patterns: str, to: str, ignore: str | None = None, mode: str = "", extract: bool = False, excluded: str = ""
    ) -> Changes:
        request = CopyRequest(
            Rootfs(str(context)),
            patterns,
            to,
            ownership=ME,
            mode=ModeChange.parse(mode) if mode else None,
            extract=extract,
            ignore=None if ignore is None else IgnorePatterns.parse(ignore),
        )
        return copy(Rootfs(str(root), frozenset(excluded.split())), request)

    return do


def write(directory: Path, *names: str) -> None:
    """Files whose content is their name."""
    for name in names:
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)


def files(directory: Path) -> dict[str, str]:
    """All entries but directories: content, or "-> target"."""
    found = {}
    for parent, directories, names in os.walk(directory):
        for name in [*names, *directories]:
            path = Path(parent, name)
            if path.is_symlink():
                found[str(path.relative_to(directory))] = f"-> {os.readlink(path)}"
            elif path.is_file():
                found[str(path.relative_to(directory))] = path.read_text()
    return found


def mode(path: Path) -> str:
    return oct(stat.S_IMODE(path.lstat().st_mode))


# --- destinations


def test_directory_source_copies_its_contents(context: Path, root: Path, run: Copy) -> None:
    write(context, "src/a", "src/b/c")
    assert run("src", to="/app").written == (b"app", b"app/a", b"app/b", b"app/b/c")
    assert files(root) == {"app/a": "src/a", "app/b/c": "src/b/c"}


@pytest.mark.parametrize("pattern", [".", "/", "./", "../..", "src/.."])
def test_whole_context(context: Path, root: Path, run: Copy, pattern: str) -> None:
    write(context, "a", "src/b")
    run(pattern, to="/")
    assert files(root) == {"a": "a", "src/b": "src/b"}


@pytest.mark.parametrize(
    ("to", "place"),
    [
        ("/b", "b"),
        ("/new/b", "new/b"),
        ("/b/", "b/a"),
        ("/old", "old/a"),
        ("/old/", "old/a"),
        ("/x/../b", "b"),
        ("/", "a"),
        ("/old/.", "old/a"),
        ("/link", "old/a"),
        ("/link/b", "old/b"),
        ("/../../b", "b"),
    ],
)
def test_destination_of_a_file(context: Path, root: Path, run: Copy, to: str, place: str) -> None:
    write(context, "a")
    (root / "old").mkdir()
    (root / "link").symlink_to("/old")
    changes = run("a", to=to)
    assert files(root) == {place: "a", "link": "-> /old"}
    assert os.fsencode(place) in changes.written


def test_several_sources_go_into_a_directory(context: Path, root: Path, run: Copy) -> None:
    write(context, "a", "src/b", "src/deep/c")
    run("a", "src", to="/app/")
    assert files(root) == {"app/a": "a", "app/b": "src/b", "app/deep/c": "src/deep/c"}


def test_wildcards(context: Path, root: Path, run: Copy) -> None:
    write(context, "a.txt", "b.txt", "c.md", "src/d.txt")
    run("*.txt", to="/app/")
    assert files(root) == {"app/a.txt": "a.txt", "app/b.txt": "b.txt"}
    assert run("*.nothing", to="/app/").empty
    run("s?c/*", to="/one")
    assert (root / "one").read_text() == "src/d.txt", "a single match is a file like any other"


def test_missing_source(context: Path, root: Path, run: Copy) -> None:
    write(context, "a")
    for pattern in ("b", "a/b", "a\\*"):
        with pytest.raises(FileSystemError) as caught:
            run(pattern, to="/")
        assert caught.value.reason is Reason.FILE_NOT_FOUND
        assert pattern in caught.value.message
        assert caught.value.hint
    assert files(root) == {}


def test_a_missing_source_of_an_empty_context(context: Path, run: Copy) -> None:
    """That of an inline Dockerfile: no other path would help."""
    with pytest.raises(FileSystemError) as caught:
        run("a", to="/", ignore="")
    assert caught.value.hint == "Give the build a context with files: this one is empty, as with an inline Dockerfile."
    write(context, "b")
    with pytest.raises(FileSystemError) as caught:
        run("a", to="/", ignore="")
    assert caught.value.hint == "Check the path: it is relative to the root of the build context."


# --- links


def test_link_is_followed_as_source_and_kept_below_a_directory(context: Path, root: Path, run: Copy) -> None:
    write(context, "data/file")
    (context / "link").symlink_to("data/file")
    (context / "directory").symlink_to("/data")
    (context / "data/inner").symlink_to("file")
    (context / "data/away").symlink_to("/nowhere")
    run("link", to="/app/")
    run("directory", to="/all")
    assert files(root) == {
        "app/link": "data/file",
        "all/file": "data/file",
        "all/inner": "-> file",
        "all/away": "-> /nowhere",
    }


def test_links_of_the_context_do_not_lead_out(tmp_path: Path, context: Path, root: Path, run: Copy) -> None:
    write(tmp_path, "secret")
    (context / "up").symlink_to("../secret")
    (context / "directory").symlink_to("..")
    write(context, "plain")
    with pytest.raises(FileSystemError) as caught:
        run("up", to="/x")
    assert caught.value.reason is Reason.FILE_NOT_FOUND
    run("directory/plain", to="/x")
    assert (root / "x").read_text() == "plain"


def test_linked_parents_of_the_destination_are_followed_inside_the_root(
    tmp_path: Path, context: Path, root: Path, run: Copy
) -> None:
    write(context, "a")
    (root / "real").mkdir()
    (root / "absolute").symlink_to("/real")
    (root / "climbing").symlink_to("../../../real/deep")
    assert run("a", to="/absolute/x").written == (b"real/x",)
    assert run("a", to="/climbing/y").written == (b"real/deep", b"real/deep/y"), "the link led to nothing: it is made"
    assert files(root) == {
        "real/x": "a",
        "real/deep/y": "a",
        "absolute": "-> /real",
        "climbing": "-> ../../../real/deep",
    }
    assert files(tmp_path) == {f"root/{k}": v for k, v in files(root).items()} | {"context/a": "a"}


def test_named_link_is_followed_and_link_in_a_directory_is_replaced(context: Path, root: Path, run: Copy) -> None:
    write(context, "a", "d/inside")
    write(root, "precious", "d/precious")
    (root / "link").symlink_to("precious")
    (root / "chain").symlink_to("/link")
    (root / "dangling").symlink_to("/new/../new/file")
    (root / "out").symlink_to("../../outside")
    (root / "d/a").symlink_to("precious")
    (root / "d/inside").symlink_to("precious")
    assert run("a", to="/link").written == (b"precious",)
    assert run("a", to="/chain").written == ()
    run("a", to="/dangling")
    run("a", to="/out")
    run("a", to="/d/")
    run("d", to="/d")
    assert files(root) == {
        "precious": "a",
        "link": "-> precious",
        "chain": "-> /link",
        "dangling": "-> /new/../new/file",
        "new/file": "a",
        "out": "-> ../../outside",
        "outside": "a",
        "d/precious": "d/precious",
        "d/a": "a",
        "d/inside": "d/inside",
    }


def test_named_link_to_an_excluded_path_is_refused(context: Path, root: Path, run: Copy) -> None:
    write(context, "a")
    write(root, "own/key")
    for target in ("own/key", "/own/new", "own/../own/new"):
        (root / "link").symlink_to(target)
        with pytest.raises(FileSystemError) as caught:
            run("a", to="/link", excluded="own")
        assert caught.value.reason is Reason.PATH_NOT_ALLOWED
        (root / "link").unlink()
    assert files(root) == {"own/key": "own/key"}


def test_equal_files_are_not_changes(context: Path, root: Path, run: Copy) -> None:
    write(context, "d/a", "d/sub/b")
    (context / "d/link").symlink_to("a")
    (context / "x.tar").write_bytes(
        make_tar(Item("f", data=b"x"), directory("g"), Item("g/h", data=b"y"), symlink("l", "f"))
    )
    for _ in range(2):
        first = run("d", to="/x", mode="")
        unpacked = run("x.tar", to="/y", extract=True)
    assert (first.written, unpacked.written) == ((), ())
    assert run("d/a", to="/x/").written == ()
    assert run("d", to="/x", mode="go-rwx").written == (b"x/a", b"x/sub", b"x/sub/b")
    assert run("d", to="/x", mode="go-rwx").written == ()
    os.utime(context / "d/a", (1, 1))
    assert run("d", to="/x", mode="go-rwx").written == (b"x/a",)
    info = (context / "d/a").stat()
    (context / "d/a").write_text("D/A")
    os.utime(context / "d/a", ns=(info.st_atime_ns, info.st_mtime_ns))
    assert run("d", to="/x", mode="go-rwx").written == (b"x/a",), "of another content, though as long and as old"
    (context / "d/link").unlink()
    (context / "d/link").symlink_to("b")
    os.utime(context / "d/link", ns=(info.st_atime_ns, (root / "x/link").lstat().st_mtime_ns), follow_symlinks=False)
    assert run("d", to="/x", mode="go-rwx").written == (b"x/link",)
    with contextlib.suppress(OSError):  # a file system without them
        os.setxattr(context / "d/a", "user.mark", b"1")
        assert run("d", to="/x", mode="go-rwx").written == (b"x/a",)
        assert run("d", to="/x", mode="go-rwx").written == ()
    os.link(root / "x/a", root / "x/second")
    assert run("d/a", to="/x/", mode="go-rwx").written == (b"x/a",), "it was one file with the other"
    (context / "x.tar").write_bytes(make_tar(Item("f", data=b"z"), directory("g", 0o700), Item("g/h", data=b"y")))
    assert run("x.tar", to="/y", extract=True).written == (b"y/f", b"y/g")


def test_hard_links_across_sources_become_separate_files(context: Path, root: Path, run: Copy) -> None:
    write(context, "d/a")
    os.link(context / "d/a", context / "d/b")
    os.link(context / "d/a", context / "c")
    run("d", "c", to="/x/")
    assert (root / "x/a").samefile(root / "x/b")
    assert not (root / "x/a").samefile(root / "x/c")


def test_an_equal_file_is_written_along_with_a_second_name(context: Path, root: Path, run: Copy) -> None:
    """Else the next step would find two names of it, and one name if this step's layer is from a cache."""
    write(context, "src/a")
    os.link(context / "src/a", context / "src/b")
    run("src/a", to="/d/")
    assert run("src/a", "src/b", to="/d/").written == (b"d/b",)  # two files
    (root / "d/b").unlink()
    assert run("src", to="/d").written == (b"d/a", b"d/b")


@pytest.mark.parametrize("extract", [False, True], ids=["COPY", "ADD of an archive"])
def test_times_past_the_limit_are_equal(context: Path, root: Path, *, extract: bool) -> None:
    written = []
    for time in (1_600_000_000, 1_700_000_000, 1_500_000_000):
        if extract:
            (context / "a").write_bytes(make_tar(Item("a", data=b"1", mtime=time)))
        else:
            write(context, "a")
            os.utime(context / "a", (time, time))
        request = CopyRequest(Rootfs(str(context)), ("a",), "/d/", ownership=ME, extract=extract)
        written.append(copy(Rootfs(str(root)), request, mtime_limit_ns=1_550_000_000 * 10**9).written)
    assert written == [(b"d", b"d/a"), (), (b"d/a",)]


def test_several_sources_need_a_directory(context: Path, root: Path) -> None:
    write(context, "a", "b", "d/c")
    source, target = Rootfs(str(context)), Rootfs(str(root))

    def do(*patterns: str, to: str, also: str = "") -> None:
        one = CopyRequest(source, patterns, to, ownership=ME)
        copy(target, one, *([CopyRequest(source, (also,), to, ownership=ME)] if also else []))

    do("a", "nothing*", to="/one")
    do("no*", "a", "a", "[a]", to="/two")
    do("d", "b", to="/directory")
    assert files(root) == {"one": "a", "two": "a", "directory/c": "d/c", "directory/b": "b"}
    for patterns, also in ((("a", "b"), ""), (("[ab]",), ""), (("a",), "b")):
        with pytest.raises(FileSystemError, match="cannot copy several files to") as caught:
            do(*patterns, to="/three", also=also)
        assert caught.value.reason is Reason.USAGE_INVALID
        assert caught.value.hint == 'End the destination with a slash: "/three/".'
    do("a", to="/four", also="a")
    with pytest.raises(FileSystemError, match="a non-directory exists there"):
        do("a", "d", to="/five")


def test_link_loop_is_named(context: Path, root: Path, run: Copy) -> None:
    write(context, "a")
    (root / "x").symlink_to("y")
    (root / "y").symlink_to("x")
    with pytest.raises(FileSystemError) as caught:
        run("a", to="/x/b")
    assert caught.value.reason is Reason.PATH_NOT_ALLOWED


# --- replacing entries


def test_files_are_replaced_and_directories_merged(context: Path, root: Path, run: Copy) -> None:
    write(context, "src/a", "src/b/c")
    write(root, "app/a", "app/b/old")
    run("src", to="/app")
    assert files(root) == {"app/a": "src/a", "app/b/c": "src/b/c", "app/b/old": "app/b/old"}


def test_replacing_a_file_keeps_its_other_hard_links(context: Path, root: Path, run: Copy) -> None:
    write(context, "a")
    write(root, "one")
    os.link(root / "one", root / "two")
    run("a", to="/one")
    assert files(root) == {"one": "a", "two": "one"}


@pytest.mark.parametrize(("source", "to"), [("src/b", "/app"), ("src", "/file"), ("src", "/merge"), ("a", "/file/x")])
def test_files_and_directories_never_replace_each_other(
    context: Path, root: Path, run: Copy, source: str, to: str
) -> None:
    write(context, "src/b", "src/d/e", "a")
    write(root, "app/b/c", "file", "merge/d")
    before = files(root)
    with pytest.raises(FileSystemError) as caught:
        run(source, to=to)
    assert caught.value.reason is Reason.PATH_NOT_ALLOWED
    assert before.items() <= files(root).items()


def test_last_of_two_files_wins(context: Path, root: Path, run: Copy) -> None:
    write(context, "one/x", "two/x")
    os.link(context / "one/x", context / "two/y")
    run("one", "two", to="/app/")
    assert files(root) == {"app/x": "two/x", "app/y": "one/x"}, "no link to a file that was replaced meanwhile"


# --- metadata


def test_modes_times_and_hard_links_are_preserved(context: Path, root: Path, run: Copy) -> None:
    write(context, "src/a", "src/b/c")
    os.link(context / "src/a", context / "src/b/again")
    os.chmod(context / "src/a", 0o640)
    os.chmod(context / "src/b", 0o2750)
    os.utime(context / "src/b/c", ns=(5, 1_234_567_890_123_456_789))
    os.utime(context / "src/b", ns=(5, 1_111_111_111_000_000_001))
    run("src", to="/app")
    assert (mode(root / "app/a"), mode(root / "app/b"), mode(root / "app")) == ("0o640", "0o2750", "0o755")
    assert (root / "app/a").stat().st_ino == (root / "app/b/again").stat().st_ino
    assert (root / "app/b/c").stat().st_mtime_ns == 1_234_567_890_123_456_789
    assert (root / "app/b").stat().st_mtime_ns == 1_111_111_111_000_000_001


def test_hard_links_across_many_directories_are_preserved(context: Path, root: Path, run: Copy) -> None:
    for n in range(300):
        write(context, f"src/{n}/file")
        os.link(context / f"src/{n}/file", context / f"src/{n}/again")
    run("src", to="/app")
    for n in range(300):
        assert (root / f"app/{n}/file").stat().st_nlink == 2
        assert (root / f"app/{n}/again").read_text() == f"src/{n}/file"


def test_existing_destination_keeps_its_mode_and_nested_directories_do_not(
    context: Path, root: Path, run: Copy
) -> None:
    write(context, "src/sub/a")
    os.chmod(context / "src", 0o700)
    os.chmod(context / "src/sub", 0o1777)
    (root / "app/sub").mkdir(parents=True)
    os.chmod(root / "app", 0o711)
    os.chmod(root / "app/sub", 0o700)
    run("src", to="/app")
    assert (mode(root / "app"), mode(root / "app/sub")) == ("0o711", "0o1777")


def test_chmod_applies_to_files_and_created_directories(context: Path, root: Path, run: Copy) -> None:
    write(context, "a", "src/b/c")
    os.chmod(context / "a", 0o600)
    (root / "old").mkdir(mode=0o750)
    os.umask(os.umask(0o077))
    run("a", to="/old/new/a", mode="4711")
    assert (mode(root / "old"), mode(root / "old/new"), mode(root / "old/new/a")) == ("0o750", "0o711", "0o4711")
    run("src", to="/tree", mode="u=rwX,go=rX")
    assert [mode(root / p) for p in ("tree", "tree/b", "tree/b/c")] == ["0o755", "0o755", "0o644"]


def test_umask_is_ignored(context: Path, root: Path, run: Copy) -> None:
    write(context, "src/b/c")
    os.chmod(context / "src/b", 0o777)
    os.chmod(context / "src/b/c", 0o666)
    before = os.umask(0o077)
    try:
        run("src", to="/x/y")
    finally:
        os.umask(before)
    assert [mode(root / p) for p in ("x", "x/y", "x/y/b", "x/y/b/c")] == ["0o755", "0o755", "0o777", "0o666"]


def test_special_files(context: Path, root: Path, run: Copy) -> None:
    import socket

    (context / "src").mkdir()
    os.mkfifo(context / "src/fifo", 0o640)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(context / "src/socket"))
    changes = run("src", to="/app")
    assert stat.S_ISFIFO((root / "app/fifo").lstat().st_mode)
    assert not (root / "app/socket").exists(), "no layer can hold a socket"
    assert changes.written == (b"app", b"app/fifo")


def test_sparse_files_stay_sparse(context: Path, root: Path, run: Copy) -> None:
    with (context / "disk").open("wb") as file:
        file.write(b"begin")
        file.seek(50_000_000)
        file.write(b"middle")
        file.truncate(100_000_000)
    run("disk", to="/disk")
    copied = root / "disk"
    assert copied.stat().st_size == 100_000_000
    assert copied.stat().st_blocks * 512 < 1_000_000
    with copied.open("rb") as file:
        assert file.read(5) == b"begin"
        file.seek(50_000_000)
        assert file.read(7) == b"middle\0"


def test_undecodable_names(context: Path, root: Path, run: Copy) -> None:
    name = b"\xff\xfe \n\\*"
    with open(os.fsencode(context) + b"/" + name, "wb") as file:
        file.write(b"x")
    run(".", to="/app", ignore="")
    assert os.listdir(os.fsencode(root) + b"/app") == [name]


# --- .dockerignore


def test_ignored_files_are_not_copied(context: Path, root: Path, run: Copy) -> None:
    write(context, "a", "b.log", "src/c", "src/d.log", "node_modules/x/y", "node_modules/keep/me")
    ignore = "**/*.log\nnode_modules\n!node_modules/keep"
    changes = run(".", to="/app", ignore=ignore)
    assert files(root) == {
        "app/a": "a",
        "app/src/c": "src/c",
        "app/node_modules/keep/me": "node_modules/keep/me",
    }
    assert b"app/node_modules/x" not in changes.written
    assert not (root / "app/node_modules/x").exists()


@pytest.mark.parametrize("pattern", ["b.log", "src/d.log", "link", "hidden", "empty", "file"])
def test_ignored_source_is_missing(context: Path, root: Path, run: Copy, pattern: str) -> None:
    write(context, "b.log", "src/d.log", "hidden/x", "a", "empty/x", "file")
    (context / "link").symlink_to("b.log")
    with pytest.raises(FileSystemError) as caught:
        run(pattern, to="/app", ignore="**/*.log\nhidden\nempty\n!empty/other\nfile\n!file/below")
    assert caught.value.reason is Reason.FILE_NOT_FOUND
    assert ".dockerignore" in caught.value.hint


def test_ignored_link_is_not_followed(context: Path, root: Path, run: Copy) -> None:
    write(context, "target")
    (context / "link").symlink_to("target")
    with pytest.raises(FileSystemError):
        run("link", to="/x", ignore="link")
    run("target", to="/x", ignore="link")
    assert files(root) == {"x": "target"}


def test_wildcards_skip_ignored_files(context: Path, root: Path, run: Copy) -> None:
    write(context, "a.txt", "b.txt", "c.txt")
    run("*.txt", to="/app/", ignore="b.txt\n!b.txt/x")
    assert files(root) == {"app/a.txt": "a.txt", "app/c.txt": "c.txt"}


def test_exclusions(context: Path, root: Path, run: Copy) -> None:
    write(context, "a", "src/main.go", "src/vendor/x", "docs/y")
    run(".", to="/", ignore="*\n!src\nsrc/vendor")
    assert files(root) == {"src/main.go": "src/main.go"}


# --- excluded paths


@pytest.mark.parametrize("to", ["/kaniko/x", "/kaniko", "/link/x", "/kaniko/new/x", "/link/new/x", "/kaniko/.."])
def test_directory_of_the_engine_is_not_written(context: Path, root: Path, run: Copy, to: str) -> None:
    write(context, "x")
    write(root, "kaniko/own")
    (root / "link").symlink_to("/kaniko")
    if to == "/kaniko/..":
        write(context, "kaniko/x")
        with pytest.raises(FileSystemError) as caught:
            run(".", to=to, excluded="kaniko proc")
    else:
        with pytest.raises(FileSystemError) as caught:
            run("x", to=to, excluded="kaniko proc")
    assert caught.value.reason is Reason.PATH_NOT_ALLOWED
    assert caught.value.hint
    assert {p.name for p in (root / "kaniko").iterdir()} == {"own"}


# --- archives


def archive_of(*members: tuple[str, str], compression: str = "") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=f"w:{compression}") as tar:  # type: ignore[call-overload]
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.mode = 0o640
            info.uid, info.gid = 12345, 12345
            if name.endswith("/"):
                info.type = tarfile.DIRTYPE
                info.mode = 0o750
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content.encode()))
    return buffer.getvalue()


@pytest.mark.parametrize("compression", ["", "gz", "bz2", "xz"])
def test_add_unpacks_archives_by_content(context: Path, root: Path, run: Copy, compression: str) -> None:
    data = archive_of(("dir/", ""), ("dir/a", "A"), ("b", "B"), compression=compression)
    (context / "no-extension").write_bytes(data)
    changes = run("no-extension", to="/app", extract=True)
    assert files(root) == {"app/dir/a": "A", "app/b": "B"}
    assert changes.written == (b"app", b"app/b", b"app/dir", b"app/dir/a")
    assert mode(root / "app/dir") == "0o750"


def test_copy_does_not_unpack(context: Path, root: Path, run: Copy) -> None:
    data = archive_of(("a", "A"))
    (context / "x.tar").write_bytes(data)
    run("x.tar", to="/app/")
    assert (root / "app/x.tar").read_bytes() == data


@pytest.mark.parametrize(
    "content", [b"", b"no archive", bytes(2000), b"\x1f\x8bnonsense", archive_of(("a", "A"))[:300]]
)
def test_add_copies_files_that_only_look_like_archives(context: Path, root: Path, run: Copy, content: bytes) -> None:
    (context / "x.tar.gz").write_bytes(content)
    run("x.tar.gz", to="/app/", extract=True)
    assert (root / "app/x.tar.gz").read_bytes() == content


def test_a_directory_is_not_searched_for_archives(context: Path, root: Path, run: Copy) -> None:
    (context / "src").mkdir()
    (context / "src/x.tar").write_bytes(archive_of(("a", "A")))
    run("src", to="/app", extract=True)
    assert (root / "app/x.tar").is_file()


def test_archive_keeps_attributes_of_the_destination(context: Path, root: Path, run: Copy) -> None:
    (context / "x.tar").write_bytes(archive_of(("./", ""), ("./a", "A")))
    (root / "app").mkdir()
    os.chmod(root / "app", 0o711)
    run("x.tar", to="/app", extract=True)
    assert mode(root / "app") == "0o711"
    assert files(root) == {"app/a": "A"}


def test_truncated_archive_is_an_error(context: Path, root: Path, run: Copy) -> None:
    (context / "x.tar").write_bytes(archive_of(("a", "A" * 5000))[:2000])
    with pytest.raises(FileSystemError, match="the archive is truncated"):
        run("x.tar", to="/app", extract=True)


OUT_OF_THE_DESTINATION = {
    "dots": (Item("../etc/x", data=b"x"),),
    "absolute": (Item("/etc/x", data=b"x"),),
    "absolute-dots": (Item("/../etc/x", data=b"x"),),
    "dots-within": (Item("a/../../etc/x", data=b"x"),),
    "own-link": (symlink("sub", ".."), Item("sub/etc/x", data=b"x")),
    "own-absolute-link": (symlink("sub", "/etc"), Item("sub/x", data=b"x")),
    "link-that-was-there": (Item("up/etc/x", data=b"x"),),
    "absolute-link-that-was-there": (Item("abs/x", data=b"x"),),
    "hard-link-target": (Item("etc/y", data=b"x"), hardlink("etc/x", "../etc/y"), hardlink("etc/y", "/etc/x")),
    "hard-link-target-by-a-link": (Item("etc/y", data=b"x"), hardlink("etc/x", "up/etc/y")),
    "hard-link-through-a-link": (Item("etc/y", data=b"x"), hardlink("abs/x", "etc/y")),
}


@pytest.mark.parametrize("escape", OUT_OF_THE_DESTINATION)
def test_archive_cannot_leave_the_destination(context: Path, root: Path, run: Copy, escape: str) -> None:
    (context / "x.tar").write_bytes(make_tar(*OUT_OF_THE_DESTINATION[escape]))
    write(root, "etc/keep", "etc/y")
    (root / "app").mkdir()
    (root / "app/up").symlink_to("../..")
    (root / "app/abs").symlink_to("/etc")
    changes = run("x.tar", to="/app", extract=True)
    assert files(root)["app/etc/x"] == "x"
    assert files(root / "etc") == {"keep": "etc/keep", "y": "etc/y"}
    assert b"app/etc/x" in changes.written
    assert all(path.startswith(b"app") for path in changes.written)


def test_hard_link_out_of_the_destination_is_refused(context: Path, root: Path, run: Copy) -> None:
    write(root, "etc/shadow")
    (context / "x.tar").write_bytes(make_tar(hardlink("mine", "../etc/shadow")))
    with pytest.raises(FileSystemError, match="which does not exist"):
        run("x.tar", to="/app", extract=True)


def test_excluded_paths_below_the_destination_stay(context: Path, root: Path, run: Copy) -> None:
    write(root, "app/own/key")
    (context / "x.tar").write_bytes(make_tar(Item("own/key", data=b"x"), Item("a", data=b"x")))
    run("x.tar", to="/app", extract=True, excluded="app/own")
    assert files(root) == {"app/a": "x", "app/own/key": "app/own/key"}
    (context / "x.tar").write_bytes(make_tar(symlink("l", "/own"), Item("l/key", data=b"x")))
    with pytest.raises(FileSystemError, match="a directory of the executor"):
        run("x.tar", to="/app", extract=True, excluded="app/own")
    assert (root / "app/own/key").read_text() == "app/own/key"


def test_changes_of_an_archive_are_real_paths_of_remaining_entries(context: Path, root: Path, run: Copy) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, kind, target in (
            ("d/x", tarfile.REGTYPE, ""),
            ("d", tarfile.SYMTYPE, "e"),
            ("real/y", tarfile.REGTYPE, ""),
            ("through", tarfile.SYMTYPE, "real"),
            ("through/z", tarfile.REGTYPE, ""),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            tar.addfile(info, io.BytesIO())
    (context / "x.tar").write_bytes(buffer.getvalue())
    changes = run("x.tar", to="/", extract=True)
    assert changes.written == (b"d", b"real/y", b"real/z", b"through")
