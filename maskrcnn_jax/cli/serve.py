"""Serves a trained detector over HTTP.

    python -m maskrcnn_jax.serve runs/mine
    curl -F image=@photo.jpg "http://127.0.0.1:8000/predict?min_score=0.5"

SOURCE is whatever python -m maskrcnn_jax.export takes. POST /predict takes an image, or a form with
several, and answers with COCO's results in JSON or, with ?format=png, with a picture. /health says
when it is ready, /metrics counts in Prometheus' format. SIGTERM and Ctrl-C answer what has come
and stop. docs/serve.md.
"""

import argparse
import signal
import socket
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from maskrcnn_jax.cli import command
from maskrcnn_jax.compilation import use_compilation_cache
from maskrcnn_jax.export.detector import load

_NEEDED = ("multipart", "prometheus_client", "starlette", "uvicorn")
_GRACE = 30  # seconds for requests in work when the server is stopped
_BACKLOG = 2048  # connections that wait to be taken, uvicorn's own number


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    options = _parser().parse_args(arguments)
    return command.status_of(lambda: _serve(options), options.debug)


def _parser() -> argparse.ArgumentParser:
    parser = command.parser(__doc__, "python -m maskrcnn_jax.serve")
    add = parser.add_argument
    add("source", metavar="SOURCE", help="a work directory, a file of weights or a name")
    add("--host", default="127.0.0.1", help="address to listen on (127.0.0.1: this machine alone)")
    add("--port", type=int, default=8000, help="0: any that is free (8000)")
    add("--checkpoint", default="last", help="last, best or the number of a step (last)")
    add("--batch_size", type=int, default=1, help="images detected together at most (1)")
    add("--wait", type=float, default=0.005, help="seconds an image waits for others (0.005)")
    add("--max_megabytes", type=float, default=32.0, help="of a request (32)")
    add("--max_megapixels", type=float, default=25.0, help="of an image (25)")
    add("--max_images", type=int, default=16, help="in a request (16)")
    add("--max_requests", type=int, default=32, help="in work at a time; then 503 (32)")
    add("--upload_seconds", type=float, default=30.0, help="for headers, then a body, to come (30)")
    add("--seconds", type=float, default=60.0, help="in which it must be answered (60)")
    add("--page", type=Path, metavar="DIR", help="serve this folder at /, as --format=web makes it")
    command.add_cache(parser)
    return parser


def _serve(options: argparse.Namespace) -> None:
    for package in _NEEDED:
        try:
            import_module(package)
        except ImportError as error:
            raise ValueError(
                f"serving needs the package {package} ({error}): pip install -e '.[serve]'"
            ) from error
    from maskrcnn_jax.serve.app import make_app
    from maskrcnn_jax.serve.limits import Limits
    from maskrcnn_jax.serve.model import Model

    limits = Limits(
        body_bytes=int(1e6 * options.max_megabytes),
        pixels=int(1e6 * options.max_megapixels),
        images=options.max_images,
        requests=options.max_requests,
        upload_seconds=options.upload_seconds,
        seconds=options.seconds,
    )
    if options.page is not None and not (options.page / "index.html").is_file():
        raise ValueError(f"--page={options.page} has no index.html; make one with --format=web")
    use_compilation_cache(options.compilation_cache)
    with _bound(options.host, options.port) as listening:
        detector = load(options.source, options.checkpoint)
        model = Model(detector.variables, detector.metadata, options.batch_size, limits.pixels)
        model.compile()
        app = make_app(model, limits, options.wait, options.page)
        _run(app, listening, limits.upload_seconds)


def _bound(host: str, port: int) -> socket.socket:
    """Returns a socket of this address; a port in use is told before anything is loaded."""
    try:
        if not 0 <= port < 2**16:  # the resolver would take the remainder
            raise ValueError("a port is a number from 0 to 65535")
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, kind, protocol)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"cannot listen on --host={host} --port={port}: {error}; give another"
        ) from error
    return bound


def _run(app, listening: socket.socket, seconds: float) -> None:
    """Serves until a signal comes, and then answers what has come before it."""
    import uvicorn

    from maskrcnn_jax.serve.connections import protocol

    # uvicorn stops on these, then sends them to us once more, which would end the process.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    config = uvicorn.Config(
        app,
        http=protocol(seconds),
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_GRACE,
    )
    listening.listen(_BACKLOG)  # so that who reads the next line can connect
    host, port = listening.getsockname()[:2]
    print(f"listening on http://{f'[{host}]' if ':' in host else host}:{port}", flush=True)
    uvicorn.Server(config).run(sockets=[listening])
    print("stopped")
