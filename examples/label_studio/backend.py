"""A machine learning backend for Label Studio, on top of `python -m maskrcnn_jax.serve`.

    SERVER=http://127.0.0.1:8000 uvicorn --app-dir examples/label_studio backend:app --port 9090

Label Studio asks /health and /setup when the backend is connected and sends tasks to /predict; an
answer has polygons in percent of the image. examples/README.md says how to connect it.
"""

import os
from typing import Any
from urllib.parse import urljoin, urlsplit
from xml.etree import ElementTree

import cv2
import httpx
import numpy as np
from pycocotools import mask as coco_mask
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

VERSION = "maskrcnn_jax"


def setting(name: str, default: str = "") -> str:
    return os.environ.get(name, default).rstrip("/")


async def health(_: Request) -> JSONResponse:
    return JSONResponse({"status": "UP", "model_class": VERSION})


async def setup(_: Request) -> JSONResponse:
    return JSONResponse({"model_version": VERSION})


async def predict(request: Request) -> JSONResponse:
    """Answers for each task; one that cannot be answered is told, and the others are not lost."""
    given = await request.json()
    try:
        names = control_names(given.get("label_config") or "")
    except (ElementTree.ParseError, ValueError) as error:
        return JSONResponse({"error": f"label_config: {error}"}, 400)
    async with httpx.AsyncClient(timeout=120, follow_redirects=False) as client:
        try:
            results = [await prediction(client, task, *names) for task in given.get("tasks", [])]
        except (httpx.HTTPError, ValueError) as error:
            return JSONResponse({"error": str(error) or type(error).__name__}, 502)
    return JSONResponse({"results": results})


def control_names(label_config: str) -> tuple[str, str, str]:
    """Returns the names of the polygon labels and of the image, and the field of a task."""
    if "<!" in label_config:
        raise ValueError("document types and entities are not read")
    root = ElementTree.fromstring(label_config)
    labels, image = root.find(".//PolygonLabels"), root.find(".//Image")
    if labels is None or image is None:
        raise ValueError("the labelling interface needs an Image and PolygonLabels for it")
    return labels.attrib["name"], image.attrib["name"], image.attrib["value"].lstrip("$")


async def prediction(
    client: httpx.AsyncClient, task: dict[str, Any], from_name: str, to_name: str, field: str
) -> dict[str, Any]:
    content = await image_of(client, str(task["data"][field]))
    answer = await client.post(f"{setting('SERVER')}/predict", content=content)
    if answer.status_code != 200:
        raise ValueError(f"task {task.get('id')}: {answer.json().get('error', answer.text)}")
    (found,) = answer.json()["images"]
    regions = [
        {
            "from_name": from_name,
            "to_name": to_name,
            "type": "polygonlabels",
            "original_width": found["width"],
            "original_height": found["height"],
            "value": {"points": points, "polygonlabels": [each["class_name"]], "closed": True},
            "score": each["score"],
        }
        for each in found["detections"]
        if (points := outline(each["segmentation"])) is not None
    ]
    scores = [region["score"] for region in regions]
    return {
        "model_version": VERSION,
        "score": float(np.mean(scores)) if scores else 0.0,
        "result": regions,
    }


async def image_of(client: httpx.AsyncClient, place: str) -> bytes:
    """Returns the image of a task, from Label Studio or from a host that is allowed."""
    home = setting("LABEL_STUDIO_URL", "http://127.0.0.1:8080")
    address = urljoin(home + "/", place)
    host, headers = urlsplit(address).netloc, {}
    if host == urlsplit(home).netloc:
        headers = {"Authorization": f"Token {setting('LABEL_STUDIO_API_KEY')}"}
    elif host not in setting("IMAGE_HOSTS").split(","):
        raise ValueError(f"images of {host or place!r} are not fetched; add it to IMAGE_HOSTS")
    answer = await client.get(address, headers=headers)
    answer.raise_for_status()
    return answer.content


def outline(segmentation: dict[str, Any]) -> list[list[float]] | None:
    """Returns the largest outline of a mask in percent of the image; None where there is none."""
    mask = coco_mask.decode(segmentation)
    outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_TC89_L1)
    if not outlines or len(largest := max(outlines, key=cv2.contourArea)) < 3:
        return None
    height, width = mask.shape
    # A pixel's middle is half a pixel from its corner.
    points = (largest[:, 0] + 0.5) / (width, height)
    return (100 * points).round(3).tolist()


app = Starlette(
    routes=[
        Route("/", health),
        Route("/health", health),
        Route("/setup", setup, methods=["POST"]),
        Route("/predict", predict, methods=["POST"]),
        Route("/webhook", lambda _: JSONResponse({}), methods=["POST"]),
    ]
)
