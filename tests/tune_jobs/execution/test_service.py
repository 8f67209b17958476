"""What a request to the service becomes, without Ray: images, or a status of 4xx."""

import asyncio
import io
import json

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("ray.serve", reason="needs the extra serve")

from starlette.requests import Request

from edgenes.errors import EdgeNESError
from tune_jobs.execution.service import Limits, RefusedError, answers, body_of, images_of

PIXELS = np.random.default_rng(0).integers(0, 256, (3, 8, 8), dtype=np.uint8)
LIMITS = Limits(bytes=3000, pixels=1000)


def picture(pixels=PIXELS[0], kind="PNG"):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def form(*files, name="file", boundary="b"):
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="{k}.png"\r\n\r\n'.encode() + file
        for k, file in enumerate(files)
    ]
    return b"\r\n".join([*parts, f"--{boundary}--\r\n".encode()])


def read(kind, *chunks, length=None):
    """The images of a request whose body comes in chunks."""
    fields = {"content-type": kind, "content-length": length}
    headers = [(name.encode(), str(value).encode()) for name, value in fields.items() if value is not None]
    left = list(chunks)

    async def receive():
        return {"type": "http.request", "body": left.pop(0), "more_body": bool(left)}

    async def images():
        request = Request({"type": "http", "method": "POST", "headers": headers}, receive)
        return await images_of(request.headers, await body_of(request, LIMITS.bytes), 8, 1, LIMITS)

    return asyncio.run(images())


@pytest.mark.parametrize(
    ("kind", "body", "expected"),
    [
        ("image/png", picture(), PIXELS[:1]),
        ("IMAGE/PNG; charset=binary", picture(), PIXELS[:1]),
        ("multipart/form-data; boundary=b", form(*map(picture, PIXELS)), PIXELS),
        ("application/json", json.dumps({"images": PIXELS.tolist()}).encode(), PIXELS),
        ("application/json", json.dumps({"images": (PIXELS[0] / 255).tolist()}).encode(), PIXELS[:1]),
    ],
)
def test_pictures_forms_and_json_become_images(kind, body, expected):
    assert np.array_equal(read(kind, body[:20], body[20:]), expected[..., None])


def test_a_jpeg_of_another_size_is_resized():
    body = picture(np.full((16, 16, 3), 200, np.uint8), "JPEG")
    assert np.allclose(read("image/jpeg", body), 200, atol=3)


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        (None, picture(), 415),
        ("application/x-www-form-urlencoded", picture(), 415),
        ("image/png", b"", 400),
        ("image/png", b"no picture", 400),
        ("image/png", picture(kind="BMP"), 400),
        ("image/png", picture()[:60], 400),
        ("image/png", picture(np.zeros((40, 40), np.uint8)), 413),
        ("image/png", b"x" * 3001, 413),
        ("multipart/form-data", form(picture()), 400),
        ("multipart/form-data; boundary=b", form(picture())[5:], 400),
        ("multipart/form-data; boundary=b", b"--b--\r\n", 422),
        ("application/json", b"{", 400),
        ("application/json", b"\xff", 400),
        ("application/json", b"[" * 2900, 400),
        ("application/json", b"[]", 422),
        ("application/json", b'{"pictures": []}', 422),
        ("application/json", b'{"images": [[1, 2], [3]]}', 422),
        ("application/json", b'{"images": [[1, 2], [3, 4]]}', 422),
        ("application/json", b'{"images": []}', 422),
        ("application/json", b'{"images": "/etc/hostname"}', 422),
        ("application/json", b'{"images": ["/etc/hostname"]}', 422),
        ("application/json", json.dumps({"images": np.full((8, 8), np.nan).tolist()}).encode(), 422),
        ("application/json", json.dumps({"images": np.full((8, 8), 10**30).tolist()}).encode(), 422),
    ],
)
def test_what_is_wrong_has_a_status_and_a_sentence(kind, body, status):
    with pytest.raises(EdgeNESError) as refused:
        read(kind, body)
    assert getattr(refused.value, "status", 422) == status and str(refused.value).endswith(".")
    assert "object at" not in str(refused.value)


def test_a_request_that_says_that_it_is_too_large_is_not_read():
    with pytest.raises(RefusedError) as refused:
        read("image/png", b"x", b"never read", length=3001)
    assert refused.value.status == 413


def test_answers_have_label_probabilities_and_entropy():
    found = answers(np.array([[0.5, 0.5, 0], [0, 0, 1]], np.float32), ("a", "b", "c"))
    assert found[0]["probabilities"] == {"a": 0.5, "b": 0.5, "c": 0.0}
    assert [each["label"] for each in found] == ["a", "c"]
    np.testing.assert_allclose([each["entropy"] for each in found], [np.log(2), 0], atol=1e-6)
