"""A Starlette application, for servers on Trio and on asyncio."""

from functools import partial

import server_flows as flows
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

import railtracks as rt


async def work(request: Request) -> Response:
    return JSONResponse(await flows.answer(flows.WORK.ainvoke(10)))


async def fail(request: Request) -> Response:
    return JSONResponse(await flows.answer(flows.FAIL.ainvoke()))


async def slow(request: Request) -> Response:
    return JSONResponse(await flows.answer(flows.SLOW.ainvoke()))


async def hang(request: Request) -> Response:
    return JSONResponse(await flows.answer(rt.asgi.cancel_on_disconnect(request, flows.HANG.ainvoke())))


app = Starlette(
    routes=[Route(f"/{endpoint.__name__}", endpoint) for endpoint in (work, fail, slow, hang)],
    lifespan=partial(rt.asgi.lifespan, grace=flows.GRACE),
)
