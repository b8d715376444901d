"""How many rounds a long proof takes: all under `make prove`, a share in CI, a handful in `make cover`."""

import os


def rounds(full: int, handful: int) -> int:
    """Return the rounds for this run: `$RAILTRACKS_PROOF` is the share of the full ones, absent for a handful."""
    share = os.environ.get("RAILTRACKS_PROOF")
    return handful if not share else max(handful, round(full * float(share)))
