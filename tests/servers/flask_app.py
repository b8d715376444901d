"""A Flask application, for threads of gunicorn."""

import server_flows as flows
from flask import Flask, jsonify
from flask.wrappers import Response

import railtracks as rt

app = Flask(__name__)


def answered(flow: rt.Flow[..., object], *args: object) -> Response:
    try:
        return jsonify(flow.invoke(*args))
    except (ValueError, TimeoutError, rt.SessionCancelledError) as error:
        return jsonify(type(error).__name__)


@app.get("/work")
def work() -> Response:
    return answered(flows.WORK, 10)


@app.get("/fail")
def fail() -> Response:
    return answered(flows.FAIL)


@app.get("/slow")
def slow() -> Response:
    return answered(flows.SLOW)


@app.get("/hang")
def hang() -> Response:
    return answered(flows.HANG)
