"""What a look at a store says while the session that it sees comes to its end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

import railtracks as rt


@contextmanager
def ending_during_a_look(end: Callable[[], None]) -> Iterator[None]:
    """Have the next look of this thread go on when a session has ended: it has read who the owners are.

    Whether they live it learns after that. The lock of the owner stays, because its last write fails.
    """
    looking, left = threading.get_ident(), [end]

    def strike(_: object, __: object, statement: str, *___: object) -> None:
        if threading.get_ident() != looking:
            if statement.startswith("DELETE FROM railtracks_owners"):
                raise sa.exc.OperationalError(statement, None, Exception("the disk is full"))
        elif "FROM railtracks_owners" in statement and left:
            left.pop()()

    sa.event.listen(sa.Engine, "before_cursor_execute", strike)
    try:
        yield
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", strike)
    assert not left


@pytest.mark.parametrize("look", [lambda store: store.load("s").status, lambda store: store.sessions()[0].status])
def test_a_session_that_ends_during_a_look_is_not_said_to_be_interrupted(
    tmp_path: Path, look: Callable[[rt.DurableStore], str]
) -> None:
    go_on, is_open = threading.Event(), threading.Event()
    url = f"sqlite:///{tmp_path}/store.db"

    @rt.function_node
    def waits() -> None:
        is_open.set()
        go_on.wait(30)

    async def main() -> None:
        await rt.call(waits)

    def end() -> None:
        go_on.set()
        runner.join()

    runner = threading.Thread(target=rt.Flow("f", main, durable=url, save_state=False).connect(session_id="s").invoke)
    runner.start()
    assert is_open.wait(30)
    with ending_during_a_look(end):
        assert look(rt.DurableStore(url)) == "completed"
