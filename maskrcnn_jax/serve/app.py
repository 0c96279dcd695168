"""The routes of a server: POST /predict, GET /health, GET /metrics and, at /, a page.

    curl -F image=@photo.jpg "http://127.0.0.1:8000/predict?min_score=0.5"
    curl --data-binary @photo.jpg "http://127.0.0.1:8000/predict?format=png" > overlay.png

A request is refused with a reason, in JSON, and others are served meanwhile.
"""

import asyncio
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from maskrcnn_jax.images.png import encode_png
from maskrcnn_jax.inference.result import Result
from maskrcnn_jax.serve.batches import Batches
from maskrcnn_jax.serve.limits import Limits, RefusedError
from maskrcnn_jax.serve.metrics import Metrics
from maskrcnn_jax.serve.model import Model
from maskrcnn_jax.serve.uploads import Upload, images_of
from maskrcnn_jax.visualization.overlay import draw_result

_PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
# A page may then use threads: browsers ask for these before they share memory between them.
_ISOLATED = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
}
_RETRY_SECONDS = 1


def make_app(
    model: Model, limits: Limits, wait: float = 0.005, page: Path | None = None
) -> Starlette:
    """Returns the application.

    Args:
        model: the detector.
        limits: of requests.
        wait: seconds for which an image waits for others, to be detected together.
        page: a folder to serve at /, as `python -m maskrcnn_jax.export --format=web` makes it.
    """
    metrics = Metrics()
    service = _Service(model, limits, wait, metrics)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with service.batches.running():
            yield

    routes: list[BaseRoute] = [
        Route("/predict", service.predict, methods=["POST"]),
        Route("/health", service.health),
        Route("/metrics", lambda _: Response(metrics.text(), media_type=_PROMETHEUS)),
    ]
    if page is None:
        routes.append(Route("/", lambda _: PlainTextResponse(__doc__ or "")))
    else:
        routes.append(Mount("/", _Page(directory=page, html=True)))
    return Starlette(routes=routes, lifespan=lifespan)


class _Page(StaticFiles):
    def file_response(self, *arguments: Any, **options: Any) -> Response:
        response = super().file_response(*arguments, **options)
        response.headers.update(_ISOLATED)
        return response


class _Service:
    def __init__(self, model: Model, limits: Limits, wait: float, metrics: Metrics):
        self._model, self._limits, self._metrics = model, limits, metrics
        self._in_work = 0
        self.batches = Batches(model.detect, model.batch_size, wait, metrics.batches.observe)

    async def health(self, _: Request) -> Response:
        return JSONResponse({"status": "ready", "classes": list(self._model.class_names)})

    async def predict(self, request: Request) -> Response:
        """Answers a request, and counts it."""
        start = time.perf_counter()
        self._in_work += 1
        self._metrics.in_work.set(self._in_work)
        status = "499"  # the client has left
        try:
            response = await self._answer(request)
            status = str(response.status_code)
            return response
        finally:
            self._in_work -= 1
            self._metrics.in_work.set(self._in_work)
            self._metrics.requests.labels(status).inc()
            self._metrics.seconds.observe(time.perf_counter() - start)

    async def _answer(self, request: Request) -> Response:
        try:
            if self._in_work > self._limits.requests:
                raise RefusedError(503, f"{self._limits.requests} requests are in work; try again")
            wanted, min_score = _asked(request)
            uploads = await images_of(request, self._limits)
            if wanted == "png" and len(uploads) > 1:
                raise RefusedError(400, "format=png: give one image, not several")
            return await self._detected(uploads, wanted, min_score)
        except RefusedError as error:
            headers = {"Retry-After": str(_RETRY_SECONDS)} if error.status == 503 else None
            return JSONResponse({"error": str(error)}, error.status, headers)

    async def _detected(self, uploads: list[Upload], wanted: str, min_score: float) -> Response:
        try:
            async with asyncio.timeout(self._limits.seconds):
                found = await asyncio.gather(
                    *(self._found(upload, min_score) for upload in uploads)
                )
                if wanted == "png":
                    ((image, result),) = found
                    drawn = await asyncio.to_thread(_drawn, image, result)
                    return Response(drawn, media_type="image/png")
                content = await asyncio.to_thread(self._described, uploads, found)
                return JSONResponse(content)
        except TimeoutError:
            raise RefusedError(
                503, f"no answer within {self._limits.seconds:g} s; try again"
            ) from None

    async def _found(self, upload: Upload, min_score: float) -> tuple[np.ndarray, Result]:
        decode = partial(asyncio.to_thread, self._model.read, *upload)
        try:
            image, result = await self.batches(decode)
        except ValueError as error:  # of the file; its first words name it
            raise RefusedError(422, str(error)) from None
        return image, result.filter(score=min_score)

    def _described(
        self, uploads: list[Upload], found: list[tuple[np.ndarray, Result]]
    ) -> dict[str, Any]:
        """Returns what is sent as JSON: COCO's results, image by image."""
        images = []
        for image_id, (upload, (_, result)) in enumerate(zip(uploads, found, strict=True), 1):
            images.append(
                {
                    "id": image_id,
                    "file_name": upload.name,
                    "height": result.height,
                    "width": result.width,
                    "detections": result.to_coco(image_id),
                }
            )
        return {"images": images}


def _asked(request: Request) -> tuple[str, float]:
    """Returns what the query says: the format of the answer and the lowest score."""
    wanted = request.query_params.get("format", "json")
    if wanted not in ("json", "png"):
        raise RefusedError(400, f"format={wanted!r:.40}; give json or png")
    text = request.query_params.get("min_score", "0.5")
    try:
        min_score = float(text)
    except ValueError:
        min_score = math.nan
    if not 0 <= min_score <= 1:
        raise RefusedError(400, f"min_score={text!r:.40}; give a number from 0 to 1")
    return wanted, min_score


def _drawn(image: np.ndarray, result: Result) -> bytes:
    return encode_png(draw_result(image, result))
