"""The workloads w1 to w11, and g75 to g300, which show how time grows.

No I/O. docs/performance.md says what each is like in real life.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from bench import contexts
from bench.figures import OURS

Fill = Callable[[Path], None]
BASES = "{host}/library"
TOOLBOX = "{host}/bench/toolbox:{scale}"  # compilers and runtimes of several languages
LARGE = "{host}/bench/large:{scale}"  # one huge file


@dataclass(frozen=True, slots=True)
class Scale:
    """How large things are. ``toolbox_packages`` is what makes the large base large."""

    name: str
    small_files: int
    monorepo_files: int
    large_mb: int
    toolbox_packages: str


FULL = Scale(
    "full",
    25_000,
    120_000,
    3_000,
    "build-essential clang llvm cmake git python3-full python3-dev nodejs npm rustc cargo ruby-full",
)
SMALL = Scale("small", 500, 2_000, 64, "")  # to try the bench: its figures say nothing


@dataclass(frozen=True, slots=True)
class Workload:
    """``dockerfile`` has ``{host}`` for the registry and ``{scale}`` for the scale's name.

    With ``cache`` builds use their registry cache, with ``warm`` a store that stays on the disk. Then another build
    comes before the one that is measured, and ``change`` changes the context in between. ``only`` is the one builder
    that can do it, ``""`` for all. ``large_mb`` is the size of the file in the image's last layer, which is verified; 0
    for none. ``needs`` is the space in bytes.
    """

    name: str
    says: str
    dockerfile: str
    fill: Fill
    cache: bool = False
    warm: bool = False
    change: Fill | None = None
    only: str = ""
    large_mb: int = 0
    needs: int = 8 << 30

    @property
    def seeded(self) -> bool:
        return self.cache or self.warm


def workloads(scale: Scale) -> tuple[Workload, ...]:
    """Those that run when none is named."""
    cold = _cold(scale)
    by_name = {workload.name: workload for workload in cold}
    again = [
        replace(one, name=f"w8-{one.name}", says=f"{one.name} again, nothing changed, registry cache", cache=True)
        for one in cold[:4]
    ]
    warm = [
        replace(by_name["w2"], name="w11-w2", says="w2 with a warm store, all RUNs again", warm=True,
                dockerfile=f"FROM {TOOLBOX}\nCOPY main.go /\n" + _runs(10), fill=contexts.go_program,
                change=contexts.change_go_program),
        replace(by_name["w4"], name="w11-w4", says="w4 with a warm store, its source changed", warm=True,
                change=contexts.change_go_program),
    ]  # fmt: skip
    return (*cold, *again, *_incremental(), *warm)


def named_only(scale: Scale) -> tuple[Workload, ...]:
    """Those that run only when they are named: ever more steps, and files beyond tar's octal sizes."""
    growth = [
        Workload(
            f"g{count}", f"{count} small RUNs on the large base", f"FROM {TOOLBOX}\n" + _runs(count), contexts.one_file
        )
        for count in (75, 150, 300)
    ]
    sizes = (8, 10) if scale.name == "full" else ()
    huge = [_large(f"w6-{size}", f"{BASES}/debian", size * 1000, OURS) for size in sizes]
    return (*growth, *huge)


def _runs(count: int) -> str:
    return "".join(f"RUN echo {n} > /file-{n}\n" for n in range(count))


def _cold(scale: Scale) -> list[Workload]:
    return [
        Workload(
            "w1",
            "pip install of Django and friends on a Python base",
            f"FROM {BASES}/python\nWORKDIR /app\nRUN pip install --no-cache-dir --break-system-packages"
            " django djangorestframework celery requests\nCOPY app.py .\nCMD python3 app.py\n",
            contexts.one_file,
        ),
        Workload("w2", "ten small RUNs on a large base", f"FROM {TOOLBOX}\n" + _runs(10), contexts.one_file),
        Workload(
            "w3",
            f"COPY of {scale.small_files:,} small files",
            f"FROM {BASES}/debian\nCOPY files /files\n",
            partial(contexts.many_files, count=scale.small_files),
        ),
        Workload(
            "w4",
            "go build on the large base, the binary into a small image",
            f"FROM {TOOLBOX} AS build\nWORKDIR /src\nCOPY . .\nRUN CGO_ENABLED=0 go build -o /app .\n"
            f'FROM {BASES}/alpine\nCOPY --from=build /app /app\nCMD ["/app"]\n',
            contexts.go_program,
        ),
        Workload(
            "w5",
            f"monorepo: {scale.monorepo_files:,} files, .dockerignore leaves 300",
            f"FROM {BASES}/debian\nCOPY services /services\n",
            partial(contexts.monorepo, count=scale.monorepo_files),
        ),
        _large("w6", LARGE, scale.large_mb),
        Workload(
            "w7",
            "eight independent stages that compile, joined by COPY",
            "".join(_compiling(number) for number in range(8))
            + f"FROM {BASES}/debian\n"
            + "".join(f"COPY --from=s{number} /out /out\n" for number in range(8)),
            contexts.one_file,
        ),
    ]  # fmt: skip


def _compiling(number: int) -> str:
    """A stage that compiles Python's library to byte code, twice."""
    return (
        f"FROM {BASES}/python AS s{number}\n"
        f"RUN mkdir -p /out/{number} && cp -r $(python3 -c 'import os; print(os.path.dirname(os.__file__))') "
        f"/out/{number}/lib && python3 -m compileall -q -f -o 0 -o 1 /out/{number}/lib >/dev/null || true\n"
    )


def large_file_command(size_mb: int) -> str:
    """Writes ``size_mb`` million bytes to standard output, as ``verify.large_file`` expects them."""
    return f"yes 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcde | head -c {size_mb}000000"


def _large(name: str, base: str, size_mb: int, only: str = "") -> Workload:
    return Workload(
        name,
        f"a new file of {size_mb / 1000:g} GB" + (" on a base with another" if base == LARGE else ""),
        f"FROM {base}\nRUN {large_file_command(size_mb)} > /new\n",
        contexts.one_file,
        only=only,
        large_mb=size_mb,
        needs=(3 if base == LARGE else 2) * size_mb * 1_000_000 + (1 << 30),
    )


def _incremental() -> list[Workload]:
    copy = f"FROM {TOOLBOX}\nWORKDIR /app\n"
    w9 = "RUN echo dependencies > /installed\nRUN mkdir /app/cache && echo more > /app/cache/x\nCOPY src /app/src\n"
    return [
        Workload(
            "w9",
            "one source file changed after cached RUNs on the large base, registry cache",
            copy + w9,
            contexts.ten_files,
            cache=True,
            change=contexts.change_one_file,
        ),
        Workload("w10", "COPY of 10 files onto the large base, no cache", copy + "COPY src /app/src\n", contexts.ten_files),
        Workload(
            "w10b",
            "w10 with --link",
            f"FROM {TOOLBOX}\nCOPY --link src /app/src\n",
            contexts.ten_files,
        ),
        Workload(
            "w10c",
            "w10 again with other files, registry cache",
            copy + "COPY src /app/src\n",
            contexts.ten_files,
            cache=True,
            change=contexts.change_all_files,
        ),
    ]  # fmt: skip
