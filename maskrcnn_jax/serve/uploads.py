"""The images of a request: its body within limits, as one file or as a form with several."""

import asyncio
from typing import NamedTuple

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message, Receive

from maskrcnn_jax.serve.limits import Limits, RefusedError

_FORM = "multipart/form-data"


class Upload(NamedTuple):
    """A file as it was sent."""

    name: str
    content: bytes


async def images_of(request: Request, limits: Limits) -> list[Upload]:
    """Returns the image files of a request, at least one.

    Args:
        request: its body is an image file, or a form (multipart/form-data) with one or several.
        limits: of bytes, files and time.

    Raises:
        RefusedError: a limit is exceeded, or the body is none of these.
    """
    if request.headers.get("content-encoding", "identity") != "identity":
        raise RefusedError(415, "Content-Encoding: send the image file as it is")
    limited = Request(request.scope, _limited(request.receive, limits.body_bytes))
    announced = request.headers.get("content-length", "0")
    if announced.isdigit() and int(announced) > limits.body_bytes:
        raise _too_large(limits.body_bytes)
    try:
        async with asyncio.timeout(limits.upload_seconds):
            return await _read(limited, limits)
    except TimeoutError:
        raise RefusedError(
            408, f"the request did not arrive within {limits.upload_seconds:g} s"
        ) from None
    except ClientDisconnect:
        raise RefusedError(400, "the request ended early") from None


async def _read(request: Request, limits: Limits) -> list[Upload]:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != _FORM:
        content = await request.body()
        if not content:
            raise RefusedError(400, f"the body is empty; send an image file, or {_FORM} with files")
        return [Upload("image", content)]
    try:
        async with request.form(max_files=limits.images, max_fields=limits.images) as form:
            files = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
            uploads = [Upload(file.filename or "image", await file.read()) for file in files]
    except HTTPException as error:  # of Starlette: not a form, or too many files
        raise RefusedError(error.status_code, str(error.detail)) from None
    if not uploads:
        raise RefusedError(400, "the form has no files; give each image as a file of the form")
    return uploads


def _limited(receive: Receive, most: int) -> Receive:
    """Returns a `receive` that stops when more bytes have come than are allowed."""
    received = 0

    async def counted() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > most:
            raise _too_large(most)
        return message

    return counted


def _too_large(most: int) -> RefusedError:
    return RefusedError(413, f"the request is larger than {most / 1e6:g} MB")
