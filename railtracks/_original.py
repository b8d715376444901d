"""The distribution `railtracks`, the asyncio original: it has a package of the same name, and both fill one folder.

Whichever is installed last overwrites files of the other, so neither works. Called by `railtracks/__init__`, and by
`railtracks/_session` in case that the original's `__init__` stands in its place.
"""

from __future__ import annotations

import os.path
from typing import Final

# A file of every release of the original since 1.0, and never one of this package.
_MARK: Final = os.path.join("utils", "__init__.py")  # noqa: PTH118 - pathlib would cost more than all of this module


def refuse_original(folder: str) -> None:
    """Refuse to go on where files of the original lie in the folder of this package.

    Raises:
        ImportError: If they do; it says what to uninstall.
    """
    if os.path.exists(os.path.join(folder, _MARK)):  # noqa: PTH110, PTH118 - the same
        raise ImportError(
            "the distributions 'railtracks' and 'railtracks-trio' are both installed, and each has overwritten files of"
            " the other, because both have a package named railtracks. Uninstall both, and install the one you want:"
            "  pip uninstall -y railtracks railtracks-trio  and then  pip install railtracks-trio"
        )
