"""``python -m imagewright_operator``."""

import sys

from imagewright_operator.main import main

sys.exit(main())
