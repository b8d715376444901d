"""A module whose import takes as many seconds as the environment says."""

import os
import time

time.sleep(float(os.environ.get("SLOW_TO_IMPORT", "0")))


def crunch(number: int) -> int:
    return os.getpid()
