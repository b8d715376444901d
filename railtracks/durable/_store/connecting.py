"""Connections that were opened and could not be set up: they are closed.

`postgres` and `sqlite` call this for their engines. SQLAlchemy before 2.1 leaves such a connection open, for as long as
somebody holds the error.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Dialect, Engine
from sqlalchemy.engine.interfaces import DBAPIConnection


def close_what_fails(engine: Engine, connect_with: Callable[..., DBAPIConnection] | None = None) -> None:
    """Close a connection of which the setup failed, when its thread connects again or the engine is disposed of.

    To be called after all else that sets connections up.

    Args:
        engine: The engine.
        connect_with: What connects, in place of the function of the driver.
    """
    # By thread: in one thread there is no second connection before the first one is set up.
    unfinished: dict[int, DBAPIConnection] = {}

    def connect(dialect: Dialect, _: object, arguments: Sequence[Any], options: Mapping[str, Any]) -> DBAPIConnection:
        thread = threading.get_ident()
        if (failed := unfinished.pop(thread, None)) is not None:
            failed.close()
        unfinished[thread] = connection = (connect_with or dialect.connect)(*arguments, **options)
        return connection

    def is_set_up(_: object, __: object) -> None:
        unfinished.pop(threading.get_ident(), None)

    def dispose(_: Engine) -> None:
        while unfinished:
            unfinished.popitem()[1].close()

    event.listen(engine, "do_connect", connect)
    event.listen(engine, "connect", is_set_up)
    event.listen(engine, "engine_disposed", dispose)
