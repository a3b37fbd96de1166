"""Records the inputs of the steps of a build, so that the next build can explain cache misses.

No I/O: ``cache.layers`` stores a trace as an image next to the entries. It affects only explanations.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from imagewright.cache.entry import EMPTY_LAYER_DIFF_ID, as_image
from imagewright.cache.keys import StepKey
from imagewright.errors import ImagewrightError
from imagewright.oci.config import ImageConfig
from imagewright.oci.manifest import MAX_DOCUMENT_BYTES, Manifest
from imagewright.oci.platform import Platform

_LABEL = "dev.imagewright.cache.trace"
_LONG = 16  # hexadecimal digits of the hash of a part, enough to tell that it differs
_SHORT = 4  # of that of a variable, which may be a secret: too few for a brute-force attack
_VARIABLE = "the variable "
_FIRST = "what it starts from"

Steps = dict[str, dict[str, dict[str, str]]]  # stage -> instruction -> part -> hash


class Trace:
    """The steps of this build, and those of the previous one, which are loaded on first use.

    ``load`` returns the configuration of the image that the previous build stored, b"" if there is none.
    """

    def __init__(self, load: Callable[[], bytes]) -> None:
        self._load = load
        self._before: Steps | None = None
        self._now: Steps = {}

    def add(self, stage: str, instruction: str, key: StepKey) -> None:
        self._now.setdefault(stage, {})[instruction] = _short(key)

    def explain(self, stage: str, instruction: str, keys: Sequence[StepKey]) -> str:
        """Which inputs differ from the previous build; the last of ``keys`` is compared."""
        if self._before is None:
            self._before = _read(self._load())
        steps = self._before.get(stage, {})
        before = steps.get(instruction)
        if before is None:
            return "the previous build had no such step" if self._before else "no previous build is known"
        now = _short(keys[-1])
        other = [name for name in [*now, *(n for n in before if n not in now)] if now.get(name) != before.get(name)]
        if not other:
            return "its entry from the previous build is gone"
        # Changed base layers explain little if the step itself changed, too.
        own = [name for name in other if name != _FIRST]
        changed = ", ".join(own[:5]) + (", …" if len(own) > 5 else "")
        if not own:
            return "an earlier step or the base image changed"
        return f"changed: {changed}" + (", and an earlier step or the base image" if _FIRST in other else "")

    def image(self, platform: Platform) -> tuple[Manifest, bytes]:
        """The manifest and configuration to store."""
        created = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        text = json.dumps(self._now, separators=(",", ":"))
        config = ImageConfig.scratch(platform).with_layers([EMPTY_LAYER_DIFF_ID], []).with_created(created)
        return as_image(config.with_config({"Labels": {_LABEL: text}}))

    @property
    def worth_storing(self) -> bool:
        """Whether there is anything to store, small enough for a registry."""
        return 0 < len(json.dumps(self._now)) < MAX_DOCUMENT_BYTES // 2


def _short(key: StepKey) -> dict[str, str]:
    return {name: text[: _SHORT if name.startswith(_VARIABLE) else _LONG] for name, text in key.parts}


def _read(raw: bytes) -> Steps:
    """An invalid trace is treated as an empty one."""
    if not raw:
        return {}
    try:
        value = json.loads(ImageConfig.parse(raw).config["Labels"][_LABEL])
        return {
            str(stage): {str(step): {str(k): str(v) for k, v in parts.items()} for step, parts in steps.items()}
            for stage, steps in value.items()
        }
    except (ImagewrightError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}
