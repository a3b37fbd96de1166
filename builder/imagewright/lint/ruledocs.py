"""docs/lint.md, made from the rules: ``python -m imagewright.lint.ruledocs > docs/lint.md``.

Prints when run as a program. Read by the test that keeps the file true.
"""

from __future__ import annotations

import textwrap

from imagewright.lint.rules import RULES, Rule

_HEAD = """# Lint

Made from the rules themselves by `python -m imagewright.lint.ruledocs`; don't edit.

The rules are those of BuildKit's build checks, under the same names. Every build shows its warnings, with the line. A
warning fails the build only if the Dockerfile or you ask for it.

```console
$ imagewright lint                          # ./Dockerfile
$ imagewright lint path/to/Dockerfile --format=json
$ imagewright lint --format=sarif > lint.sarif
```

- `--format`: `human`; `json`, an object with `warnings` (rule, message, fix, url, file, line, endLine, column,
  endColumn); or `sarif` (2.1.0).
- `--resolve`: asks registries for the base images' configuration. Without it no network is needed, and undefined
  variables are only looked for in stages that start from scratch, since other base images may define them.
- `--warn-only`: exits with 0 although there are warnings.

`--context`, `--dockerfile`, `--build-arg`, `--target` and the flags for registries are those of `imagewright build`.

Exit codes: 0 no warnings, 3 warnings, or a Dockerfile that can't be read ([errors.md](errors.md) has the others).

## Choosing rules

At the top of the Dockerfile, or with `--build-arg BUILDKIT_DOCKERFILE_CHECK=...`, which takes its place:

```dockerfile
# check=skip=JSONArgsRecommended,StageNameCasing;error=true
FROM alpine
```

| option | |
|---|---|
| `skip` | rules that are not applied, or `all` |
| `error` | `true`: a warning fails the build (`LintFailed`) |
| `experimental` | experimental rules that are applied, or `all` |

## Rules
"""
_WIDTH = 120


def markdown() -> str:
    """The whole file."""
    return _HEAD + "".join(_section(rule) for rule in RULES)


def _section(rule: Rule) -> str:
    notes = ["Experimental: applied only when asked for."] * rule.experimental
    notes += ["It is none of BuildKit's checks."] * (not rule.in_buildkit)
    links = [f"[Docker's page]({rule.url})."] * bool(rule.url)
    text = textwrap.fill(
        " ".join([rule.description, *notes, *links]), _WIDTH, break_long_words=False, break_on_hyphens=False
    )
    return f"""
### {rule.name}

{text}

Bad:

```dockerfile
{rule.bad}```

Good:

```dockerfile
{rule.good}```

{rule.fix}
"""


if __name__ == "__main__":
    print(markdown(), end="")
