"""A server of MCP over stdio that says what it is told to. Arguments: its tools, as JSON.

A call of a tool is answered with the line that it gives, with the number of the call in place of each `#`, and a byte
that is no UTF-8 in place of each `@`.
"""

from __future__ import annotations

import json
import os
import sys

TOOLS = sys.argv[1]
CAPABLE = {"capabilities": {"tools": {}}, "serverInfo": {"name": "liar", "version": "1"}}


def text_of(text: str) -> str:
    return json.dumps({"jsonrpc": "2.0", "id": "#", "result": {"content": [{"type": "text", "text": text}]}}).replace(
        '"#"', "#"
    )


def answer_to(asked: dict[str, dict[str, object]]) -> str:
    match asked["method"]:
        case "initialize":
            told = CAPABLE | {"protocolVersion": asked["params"]["protocolVersion"]}
            return f'{{"jsonrpc": "2.0", "id": #, "result": {json.dumps(told)}}}'
        case "tools/list":
            return f'{{"jsonrpc": "2.0", "id": #, "result": {{"tools": {TOOLS}}}}}'
        case "tools/call":
            line = asked["params"]["arguments"]["line"]  # type: ignore[index]
            return {"pid": text_of(str(os.getpid())), "large": text_of("x" * 20_000_000)}.get(line, line)
        case _:
            return '{"jsonrpc": "2.0", "id": #, "error": {"code": -32601, "message": "not here"}}'


for each in sys.stdin:
    request = json.loads(each)
    if "id" in request:
        said = answer_to(request).replace("#", str(request["id"])).replace("@", "\udcff")
        sys.stdout.buffer.write(said.encode("utf-8", "surrogateescape") + b"\n")
        sys.stdout.flush()
