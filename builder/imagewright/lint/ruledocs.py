"""Generates docs/lint.md from the rules: ``python -m imagewright.lint.ruledocs > docs/lint.md``.

Prints to standard output when run as a program.
"""

from __future__ import annotations

import textwrap

from imagewright.lint.rules import RULES, Rule

_HEAD = """# Lint

Generated from the rules by `python -m imagewright.lint.ruledocs`; do not edit.

The rules are those of BuildKit's build checks, under the same names. Every build shows its warnings, with the line. A
warning fails the build only if the Dockerfile or a build argument sets `error=true`.

```console
$ imagewright lint                          # ./Dockerfile
$ imagewright lint path/to/Dockerfile --format=json
$ imagewright lint --format=sarif > lint.sarif
```

- `--format`: `human`; `json`, an object with `warnings` (rule, message, fix, url, file, line, endLine, column,
  endColumn); or `sarif` (2.1.0).
- `--resolve`: gets the configuration of base images from registries. Without it there is no network access, and
  undefined variables are reported only in stages based on scratch, since other base images may define them.
- `--warn-only`: exits with 0 even if there are warnings.

`--context`, `--dockerfile`, `--build-arg`, `--target` and the registry flags are those of `imagewright build`.

Exit codes: 0 for no warnings, 3 for warnings or an invalid Dockerfile (others: [errors.md](errors.md)).

## Choosing rules

At the top of the Dockerfile, or with `--build-arg BUILDKIT_DOCKERFILE_CHECK=...`, which overrides it:

```dockerfile
# check=skip=JSONArgsRecommended,StageNameCasing;error=true
FROM alpine
```

| option | |
|---|---|
| `skip` | rules to skip, or `all` |
| `error` | `true`: a warning fails the build (`LintFailed`) |
| `experimental` | experimental rules to apply, or `all` |

## Rules
"""
_WIDTH = 120


def markdown() -> str:
    """The text of the file."""
    return _HEAD + "".join(_section(rule) for rule in RULES)


def _section(rule: Rule) -> str:
    notes = ["Experimental: applies only on request."] * rule.experimental
    notes += ["BuildKit does not have this check."] * (not rule.in_buildkit)
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
