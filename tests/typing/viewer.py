"""What the type checkers say of the viewer. They read this file, and nothing runs it."""

from functools import partial
from pathlib import Path
from typing import assert_type

import trio
from starlette.applications import Starlette

from railtracks import viewer

home = Path(".railtracks")
assert_type(viewer.app(home, "a-long-secret-of-yours"), Starlette)
assert_type(
    viewer.app(home, "t", hosts=["desk"], root_path="/traces", stores=["sqlite:///s.db"], allow_signals=True), Starlette
)
viewer.app(home)  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]
viewer.app(home, "t", ["desk"])  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]


async def served() -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(viewer.serve, home, port=8000, hosts=["desk"]))
        assert_type(await viewer.serve(home), None)
