"""A module that ends the process that imports it, if the environment says so."""

import os

if "ENDS_AS_IMPORTED" in os.environ:
    os._exit(int(os.environ["ENDS_AS_IMPORTED"]))


def crunch() -> str:
    return "crunched"
