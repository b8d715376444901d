"""The ends of programs and `rt.asgi`, used rightly and wrongly. Only the type checkers read this file."""

from __future__ import annotations

from functools import partial
from typing import assert_type

from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.types import ASGIApp

import railtracks as rt


@rt.function_node
async def greet(name: str) -> str:
    return name


async def ends_of_programs(request: Request, application: ASGIApp) -> None:
    assert_type(rt.shutdown(2), None)
    assert_type(await rt.ashutdown(grace=2.5), None)
    assert_type(rt.shutdown_on_sigterm(), None)
    flow = rt.Flow("ends", greet, in_thread=True)
    rt.set_config(in_thread=True)
    assert_type(await rt.asgi.cancel_on_disconnect(request, flow.ainvoke("Ada")), str)
    FastAPI(lifespan=rt.asgi.lifespan)
    FastAPI(lifespan=partial(rt.asgi.lifespan, grace=2))
    Starlette(lifespan=rt.asgi.lifespan)
    rt.asgi.with_lifespan(FastAPI(), grace=2)
    served: ASGIApp = rt.asgi.with_lifespan(application)
    Starlette().mount("/", served)
    try:
        flow.invoke("Ada")
    except rt.ClientDisconnectedError as error:
        assert_type(error.reason, str | None)

    rt.shutdown("2")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    rt.Session(in_thread=True)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await rt.asgi.cancel_on_disconnect(5, flow.ainvoke("Ada"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
