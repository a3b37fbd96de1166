"""Converts a manifest or a command line that runs kaniko to an ImageBuild's spec.

No I/O. The executor's own code (``imagewright.cli``) parses kaniko's flags.
"""

from imagewright_kubectl.kaniko.conversion import Conversion, convert
from imagewright_kubectl.kaniko.manifest import Workload, find_workload, workload_of_flags

__all__ = ["Conversion", "Workload", "convert", "find_workload", "workload_of_flags"]
