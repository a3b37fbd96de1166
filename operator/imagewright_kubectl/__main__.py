"""``python -m imagewright_kubectl``."""

from imagewright_kubectl.main import main

main()
