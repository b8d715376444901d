"""A FastAPI application, for servers on asyncio."""

from functools import partial

import server_flows as flows
from fastapi import FastAPI, Request

import railtracks as rt

app = FastAPI(lifespan=partial(rt.asgi.lifespan, grace=flows.GRACE))


@app.get("/work")
async def work() -> object:
    return await flows.answer(flows.WORK.ainvoke(10))


@app.get("/fail")
async def fail() -> object:
    return await flows.answer(flows.FAIL.ainvoke())


@app.get("/slow")
async def slow() -> object:
    return await flows.answer(flows.SLOW.ainvoke())


@app.get("/hang")
async def hang(request: Request) -> object:
    return await flows.answer(rt.asgi.cancel_on_disconnect(request, flows.HANG.ainvoke()))
