"""A manifest that runs kaniko becomes an ImageBuild's spec.

No I/O. Called by ``createcommand``. kaniko's flags are read by the executor's own code (``imagewright.cli``).
"""

from imagewright_kubectl.kaniko.conversion import Converted, convert
from imagewright_kubectl.kaniko.manifest import Found, find, of_words

__all__ = ["Converted", "Found", "convert", "find", "of_words"]
