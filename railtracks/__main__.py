"""``python -m railtracks``."""

import sys

from railtracks.cli import main

sys.exit(main())
