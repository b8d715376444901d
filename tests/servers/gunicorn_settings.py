"""Settings of gunicorn: the worker has set its signal handlers when this is called."""

import server_flows as flows

import railtracks as rt


def post_worker_init(worker: object) -> None:
    rt.shutdown_on_sigterm(flows.GRACE)
