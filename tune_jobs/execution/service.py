"""An ensemble behind HTTP on Ray Serve: pictures or JSON in, labels and probabilities out."""

import asyncio
import io
import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image
from ray import serve
from ray.serve._private import replica
from ray.util import get_node_ip_address
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request
from starlette.responses import JSONResponse

from edgenes.data.inputs import as_images
from edgenes.ensemble import Ensemble
from edgenes.errors import DataError, EdgeNESError
from edgenes.metrics import TINY
from edgenes.parsing import reason
from tune_jobs.execution.worker import use_resources

FORMATS = ("PNG", "JPEG")
PICTURES = ("image/png", "image/jpeg")


@dataclass(frozen=True)
class Limits:
    """What a request may bring: bytes of its body, and pixels of each picture."""

    bytes: int
    pixels: int


class RefusedError(EdgeNESError):
    """A request that is answered with an HTTP status of 4xx and the message."""

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status = status


async def body_of(request: Request, most: int) -> bytes:
    """The body of a request, of at most so many bytes; a larger one is refused before it is all here."""
    body = bytearray()
    declared = int(request.headers.get("content-length") or 0)
    async for chunk in request.stream():
        body += chunk
        if max(len(body), declared) > most:
            raise RefusedError(413, f"the request has more than {most:,} bytes: send fewer or smaller pictures.")
    return bytes(body)


async def images_of(headers: Headers, body: bytes, image_size: int, channels: int, limits: Limits) -> np.ndarray:
    """The images of a request, uint8 (samples, size, size, channels). Raises RefusedError, ConfigError, DataError."""
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        return await asyncio.to_thread(_arrays, body, image_size, channels)
    if kind not in (*PICTURES, "multipart/form-data"):
        known = ", ".join((*PICTURES, "multipart/form-data, application/json"))
        raise RefusedError(415, f"the content type {kind or '(none)'} is not known: send one of {known}.")
    files = [body] if kind in PICTURES else await _files(headers, body)
    return await asyncio.to_thread(_pictures, files, image_size, channels, limits)


async def _files(headers: Headers, body: bytes) -> list[bytes]:
    async def once() -> AsyncGenerator[bytes, None]:
        yield body

    try:
        form = await MultiPartParser(headers, once()).parse()
    except MultiPartException as error:
        raise RefusedError(400, f"the form cannot be read: {error.message}") from error
    files = [await value.read() for _, value in form.multi_items() if isinstance(value, UploadFile)]
    await form.close()
    if not files:
        raise RefusedError(422, "the form has no file: send each picture as one.")
    return files


def _pictures(files: list[bytes], image_size: int, channels: int, limits: Limits) -> np.ndarray:
    pictures = []
    for file in files:
        try:
            picture = Image.open(io.BytesIO(file), formats=FORMATS)  # reads the header alone
        except Exception as error:  # each of Pillow's plugins raises its own
            raise RefusedError(400, "expected a picture, PNG or JPEG, and it cannot be read as one.") from error
        width, height = picture.size
        if width * height > limits.pixels:
            raise RefusedError(413, f"a picture has {width} x {height} pixels, more than {limits.pixels:,}: shrink it.")
        pictures.append(picture)
    try:
        return as_images(pictures, image_size, channels).numpy()
    except DataError as error:
        raise RefusedError(400, str(error)) from error


def _arrays(body: bytes, image_size: int, channels: int) -> np.ndarray:
    try:
        given = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RefusedError(400, f"the body is not JSON: {reason(error)}.") from error
    if not isinstance(given, dict) or set(given) != {"images"}:
        raise RefusedError(422, 'expected {"images": [...]}, nested lists of pixels as predict takes them.')
    try:
        images = np.array(given["images"])  # never a list of words, which predict would take for paths
    except ValueError as error:
        raise RefusedError(422, "images are lists of lists of one length each.") from error
    return as_images(images, image_size, channels).numpy()


def answers(probabilities: np.ndarray, class_names: tuple[str, ...]) -> list[dict[str, Any]]:
    """For each image its most probable label, the probability of each class, and their entropy in nats."""
    entropies = -(probabilities * np.log(np.maximum(probabilities, TINY))).sum(1)
    return [
        {
            "label": class_names[row.argmax()],
            "probabilities": dict(zip(class_names, row.tolist(), strict=True)),
            "entropy": float(entropy),
        }
        for row, entropy in zip(probabilities.astype(np.float64), entropies, strict=True)
    ]


def _listen_at_node() -> None:
    """Let the replica's own gRPC port, which unpickles what it gets, listen at its node's address, not at all."""
    module: Any = replica  # there is no public way
    add = module.add_port_to_grpc_server
    module.add_port_to_grpc_server = lambda server, _: add(server, f"{get_node_ip_address()}:0")


class Service:
    """A replica: POST /predict, GET /health; requests that wait while others are computed become one batch."""

    def __init__(self, ensemble: Ensemble, limits: Limits, batch_size: int):
        _listen_at_node()
        use_resources()
        self.ensemble, self.limits = ensemble, limits
        self._probabilities.set_max_batch_size(batch_size)  # type: ignore[attr-defined]

    async def __call__(self, request: Request) -> JSONResponse:
        """Answer a request; what is wrong with it is said in {"error": ...}."""
        allowed = {"/predict": "POST", "/health": "GET"}.get(request.url.path)
        if allowed is None:
            return JSONResponse({"error": "there is POST /predict and GET /health."}, 404)
        if request.method != allowed:
            return JSONResponse({"error": f"{request.url.path} takes {allowed}."}, 405, {"Allow": allowed})
        shape = self.ensemble.image_size, int(self.ensemble.mean.shape[1])
        if allowed == "GET":
            about = {"members": len(self.ensemble.networks), "classes": self.ensemble.class_names}
            return JSONResponse({"status": "ok", **about, "image_size": shape[0], "channels": shape[1]})
        try:
            body = await body_of(request, self.limits.bytes)
            images = await images_of(request.headers, body, *shape, self.limits)
            return JSONResponse({"predictions": answers(await self._probabilities(images), self.ensemble.class_names)})
        except EdgeNESError as error:
            return JSONResponse({"error": str(error)}, getattr(error, "status", 422))

    @serve.batch(batch_wait_timeout_s=0)
    async def _probabilities(self, requests: list[np.ndarray]) -> list[np.ndarray]:
        found = await asyncio.to_thread(self.ensemble.predict, np.concatenate(requests))
        return np.split(found, np.cumsum([len(images) for images in requests])[:-1])
