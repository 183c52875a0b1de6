"""`apa-serve`: serve exported models over the Open Inference Protocol v2, HTTP and gRPC."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Coroutine, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from ..require import require
from . import leave_at_once
from .common import add_ort_library, count_of, limit_of, port_of, run_verb, verb_parser

_TOKEN = "APA_SERVE_TOKEN"
_MIB = 1 << 20


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `apa-serve`; returns the exit code."""
    return run_verb(_parser(), _serve, argv)


def _parser() -> argparse.ArgumentParser:
    parser = verb_parser("apa-serve", __doc__ or "")
    parser.add_argument(
        "source", metavar="MODEL_OR_DIR", type=Path, help="an .onnx or .engine file, or a model repository"
    )
    parser.add_argument(
        "--http-port", type=port_of, default=8000, metavar="N", help="default 8000; 0: any free port"
    )
    parser.add_argument("--grpc-port", type=port_of, default=8001, metavar="N", help="default 8001")
    parser.add_argument("--metrics-port", type=port_of, default=8002, metavar="N", help="default 8002")
    parser.add_argument("--health-port", type=port_of, metavar="N", help="for health probes only (default: none)")
    parser.add_argument("--keep-going", action="store_true", help="start even if some models do not load")
    parser.add_argument("--no-request-log", action="store_true", help="log events only, not every request")
    _add_execution(parser.add_argument_group("execution"))
    _add_limits(parser.add_argument_group("limits"))
    _add_access(parser.add_argument_group("access"))
    _add_shadow(parser.add_argument_group("parity in production"))
    _add_lifecycle(parser.add_argument_group("lifecycle"))
    return parser


def _add_execution(group: argparse._ArgumentGroup) -> None:
    add_ort_library(group)
    group.add_argument(
        "--max-batch",
        type=partial(count_of, least=0),
        default=32,
        metavar="N",
        help="rows that run together; 0: each request alone",
    )
    group.add_argument(
        "--batch-delay-ms", type=limit_of, default=0.0, metavar="MS", help="wait this long for a full batch"
    )
    group.add_argument("--instances", type=count_of, default=1, metavar="N", help="executions at once, per model")
    group.add_argument("--threads", type=count_of, metavar="N", help="of the runtime (default: all cores but one)")
    group.add_argument(
        "--isolate", action="store_true", help="execute in processes that are replaced when they hang or crash"
    )
    group.add_argument("--provider", action="append", metavar="NAME", help="ONNX Runtime provider; repeatable")


def _add_limits(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--queue", type=count_of, default=256, metavar="N", help="requests that may wait, per model")
    group.add_argument("--request-timeout", type=limit_of, default=60.0, metavar="S", help="seconds for an answer")
    group.add_argument(
        "--read-timeout", type=limit_of, default=30.0, metavar="S", help="seconds for a request to arrive"
    )
    group.add_argument(
        "--write-timeout", type=limit_of, default=30.0, metavar="S", help="seconds for a client to read on"
    )
    group.add_argument("--max-request-mib", type=limit_of, default=64, metavar="MIB", help="size of one request")
    group.add_argument(
        "--max-pending-mib", type=limit_of, default=1024, metavar="MIB", help="size of all requests together"
    )
    group.add_argument(
        "--max-connections", type=count_of, default=1024, metavar="N", help="most connections per protocol"
    )


def _add_access(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--host", default="127.0.0.1", help="any but a loopback address needs a token")
    group.add_argument("--token-file", type=Path, metavar="FILE", help=f"bearer token (or set {_TOKEN})")
    group.add_argument("--trust-engine", action="store_true", help="load engines whose hash no passport holds")
    group.add_argument("--insecure", action="store_true", help="serve the network without a token")
    group.add_argument("--tls-cert", type=Path, metavar="PEM")
    group.add_argument("--tls-key", type=Path, metavar="PEM")


def _add_shadow(group: argparse._ArgumentGroup) -> None:
    help_ = "an .onnx or checkpoint; with several models NAME=REF; repeatable"
    group.add_argument("--shadow", type=limit_of, default=0.0, metavar="RATE", help="share of requests to compare")
    group.add_argument("--shadow-reference", action="append", default=[], metavar="REF", help=help_)
    group.add_argument(
        "--shadow-limit", type=limit_of, metavar="E", help="limit of the relative error (default: the passport's)"
    )


def _add_lifecycle(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--reload-interval", type=limit_of, default=2.0, metavar="S", help="seconds between checks; 0: never"
    )
    group.add_argument(
        "--drain-delay", type=limit_of, default=0.0, metavar="S", help="seconds to serve on after SIGTERM"
    )
    group.add_argument(
        "--drain-timeout", type=limit_of, default=30.0, metavar="S", help="seconds for accepted requests"
    )


def _serve(given: argparse.Namespace) -> int:
    from ..serving.memory import keep_one_arena

    keep_one_arena()
    for number in (
        signal.SIGINT,
        signal.SIGTERM,
        signal.SIGHUP,
    ):  # until the server answers
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup
            signal.signal(number, leave_at_once)
    for module in ("uvicorn", "httptools", "grpc", "prometheus_client", "tritonclient"):
        require(module)
    from ..runtimes.onnxruntime import check_providers, flush_subnormals_from_here
    from ..serving.access import read_token
    from ..serving.lifecycle import run
    from ..serving.options import ServeOptions, default_threads

    options = ServeOptions(
        source=given.source,
        host=given.host,
        http_port=given.http_port,
        grpc_port=given.grpc_port,
        metrics_port=given.metrics_port,
        health_port=given.health_port,
        max_batch=given.max_batch,
        batch_delay=given.batch_delay_ms / 1e3,
        instances=given.instances,
        threads=default_threads(given.instances) if given.threads is None else given.threads,
        providers=given.provider,
        trust_engine=given.trust_engine,
        isolate=given.isolate,
        flush_subnormals=True,
        shadow=given.shadow,
        shadow_references=given.shadow_reference,
        shadow_limit=given.shadow_limit,
        queue=given.queue,
        request_timeout=given.request_timeout,
        read_timeout=given.read_timeout,
        write_timeout=given.write_timeout,
        max_request=round(given.max_request_mib * _MIB),
        max_pending=round(given.max_pending_mib * _MIB),
        max_connections=given.max_connections,
        reload_interval=given.reload_interval,
        drain_delay=given.drain_delay,
        drain_timeout=given.drain_timeout,
        token=read_token(given.token_file, os.environ.get(_TOKEN)),
        insecure=given.insecure,
        tls_cert=given.tls_cert,
        tls_key=given.tls_key,
        keep_going=given.keep_going,
        log_requests=not given.no_request_log,
    )
    if given.provider and not given.keep_going:
        check_providers(given.provider)  # before it listens
    flush_subnormals_from_here()  # before there are other threads
    return asyncio.run(_run_to_the_end(run(options)))


async def _run_to_the_end(server: Coroutine[Any, Any, int]) -> NoReturn:
    """Exit with the server's code from within: to end the event loop would wait for threads, and one may hang."""
    code = await server
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    raise SystemExit(main())
