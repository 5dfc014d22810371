"""Requests in, answers out: the page, its examples, and what the detector finds in images.

The detector runs in one thread, an image at a time, and every visitor gets what was found in the
own image. Images stay in memory. What goes wrong is answered as {"error": a sentence}.
"""

import asyncio
import base64
import concurrent.futures
import contextlib
import urllib.parse

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from keras_gflv2 import images
from keras_gflv2.app.kept import Kept
from keras_gflv2.app.page import files_of_page
from keras_gflv2.reporting.gallery import webp_of

LONGEST = 1280  # side of the pictures that are sent back, in pixels
MOST_WAITING = 16  # requests that have an image or wait for the detector
LONGEST_NAME = 200
HEADERS = {
    "Cache-Control": "no-store",
    # Vega makes functions of text; styles are set by Vega and SVG. Nothing comes from elsewhere.
    "Content-Security-Policy": "default-src 'none'; connect-src 'self'; img-src 'self' data:; "
    "style-src 'self' 'unsafe-inline'; script-src 'self' 'unsafe-eval'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Server:
    """An ASGI application for one detector.

    Args:
        detector: an `InteractiveDetector`.
        name: what the page calls it.
        score_threshold: at which the page begins.
        examples: `Examples`, or None.
        max_bytes: of an image's file; `images.MAX_PIXELS` is the limit of its pixels.
        hosts: names by which browsers may call this machine, or None for all. A site that claims
            an address of this machine as its own has another name.
        explain: function from an unexpected error to a sentence, or to None for a bug.

    Attributes:
        num_images: how many the network has looked at.
    """

    def __init__(
        self,
        detector,
        name,
        score_threshold=0.3,
        examples=None,
        max_bytes=20_000_000,
        hosts=None,
        explain=None,
    ):
        self.num_images = 0
        self._detector, self._examples, self._hosts = detector, examples, hosts
        self._max_bytes, self._explain = max_bytes, explain or (lambda error: None)
        self._kept, self._waiting = Kept(), 0
        self._files = files_of_page(detector, name, score_threshold, examples, max_bytes)
        # Thumbnails do not wait for the detector.
        self._worker, self._painter = (concurrent.futures.ThreadPoolExecutor(1) for _ in range(2))
        routes = [Route(f"/{path}", self._file) for path in self._files]
        routes += [
            Route("/api/examples", self._list_examples),
            Route("/api/thumbnail", self._thumbnail),
            Route("/api/detect", self._detect, methods=["POST"]),
            Route("/api/decode", self._decode, methods=["POST"]),
        ]
        handlers = {HTTPException: _answer_error, Exception: self._answer_bug}
        self._routed = Starlette(routes=routes, exception_handlers=handlers)

    async def __call__(self, scope, receive, send):
        """Answers a request, if it is not another site that has a browser make it."""
        if scope["type"] == "http" and not self._is_own(scope):
            text = "Only the page of this server itself may ask it: open its own address."
            await JSONResponse({"error": text}, 403)(scope, receive, send)
            return
        await self._routed(scope, receive, send)

    def close(self):
        """Lets the image that is in work end, and no other begin."""
        for pool in (self._worker, self._painter):
            pool.shutdown(cancel_futures=True)

    def _is_own(self, scope):
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        host, origin = headers.get(b"host", ""), headers.get(b"origin")
        try:
            hostname = urllib.parse.urlsplit(f"//{host}").hostname
            is_same = origin is None or urllib.parse.urlsplit(origin).netloc == host
        except ValueError:
            return False
        return is_same and (self._hosts is None or hostname in self._hosts)

    # === The page and examples ===

    async def _file(self, request):
        content, media_type = self._files[request.url.path.lstrip("/")]
        return Response(content, media_type=media_type, headers=HEADERS)

    async def _list_examples(self, request):
        names = self._examples.names() if self._examples else []
        return JSONResponse({"names": names}, headers=HEADERS)

    async def _thumbnail(self, request):
        name = request.query_params.get("name", "")
        if self._examples is None:
            raise _no_example(name)
        try:
            content = await _in(self._painter, self._examples.thumbnail, name)
        except (KeyError, FileNotFoundError):
            raise _no_example(name) from None
        except (ValueError, OSError) as error:
            raise HTTPException(422, str(error)) from error
        headers = {**HEADERS, "Cache-Control": "private, max-age=60"}
        return Response(content, media_type="image/webp", headers=headers)

    # === Detections ===

    async def _detect(self, request):
        """The body, or an example, is an image: what is in it."""
        threshold = self._threshold(request)
        with self._place():
            name, content = await self._image(request)
            looked, answer = await _in(self._worker, self._look, name, content, threshold)
        return JSONResponse({"token": self._kept.add(looked), **answer}, headers=HEADERS)

    async def _decode(self, request):
        """What is in an image that was looked at before, with another threshold of NMS."""
        threshold = self._threshold(request)
        looked = self._kept.get(request.query_params.get("token", ""))
        if looked is None:
            raise HTTPException(410, "This image was looked at too long ago: send it once more.")
        with self._place():
            found = await _in(self._worker, self._detector.decode, looked, threshold)
        return JSONResponse({"nms_threshold": threshold, "detections": found}, headers=HEADERS)

    def _threshold(self, request):
        text = request.query_params.get("nms_threshold")
        if text is None:
            return self._detector.nms_iou_threshold
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not 0 <= value <= 1:  # NaN neither
            raise HTTPException(400, f"nms_threshold must be a number from 0 to 1, got {text!r}.")
        return value

    @contextlib.contextmanager
    def _place(self):
        """One of few places: images take memory while they wait."""
        if self._waiting >= MOST_WAITING:
            raise HTTPException(503, "Too many images are waiting for the detector: try it again.")
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1

    async def _image(self, request):
        """Name and content of an image that is not empty and not too large."""
        name = request.query_params.get("example")
        if name is not None:
            try:
                return name, self._examples.read(name, self._max_bytes)
            except (KeyError, AttributeError, FileNotFoundError):
                raise _no_example(name) from None
            except (ValueError, OSError) as error:
                raise HTTPException(413, str(error)) from error
        name = request.query_params.get("name", "")[:LONGEST_NAME] or "the image"
        declared = request.headers.get("content-length", "")
        if declared.isdigit() and int(declared) > self._max_bytes:
            raise self._too_large(name)
        content = bytearray()
        try:
            async for part in request.stream():
                content += part
                if len(content) > self._max_bytes:
                    raise self._too_large(name)
        except ClientDisconnect:
            raise HTTPException(400, f"{name} did not arrive whole.") from None
        if not content:
            raise HTTPException(400, f"{name} is empty: there is nothing in the file.")
        return name, bytes(content)

    def _too_large(self, name):
        return HTTPException(
            413,
            f"{name} is larger than the {self._max_bytes / 1e6:g} MB that are accepted "
            "(--max-megabytes).",
        )

    def _look(self, name, content, threshold):
        """Runs the detector; in its thread."""
        pixels = _pixels(name, content)
        looked = self._detector.look(pixels)
        self.num_images += 1
        found = self._detector.decode(looked, threshold)
        picture = base64.b64encode(webp_of(pixels, LONGEST)).decode("ascii")
        return looked, {
            "file_name": name,
            "width": pixels.shape[1],
            "height": pixels.shape[0],
            "picture": f"data:image/webp;base64,{picture}",
            "nms_threshold": threshold,
            "detections": found,
        }

    async def _answer_bug(self, request, error):
        """Its traceback is written to the terminal."""
        text = self._explain(error) or "This is an error of the app: its terminal says more."
        return JSONResponse({"error": text}, 500, headers=HEADERS)


def _pixels(name, content):
    """The image (H, W, 3), upright as its EXIF says; what cannot be read is the visitor's error."""
    try:
        height, width, _ = images.read_image_size(content, name)
        if height * width > images.MAX_PIXELS:
            raise ValueError(
                f"{name} has {width} x {height} pixels, more than the "
                f"{images.MAX_PIXELS / 1e6:g} million that are accepted (--max-megapixels)."
            )
        return images.read_image(content, name=name)
    except (ValueError, OSError) as error:
        raise HTTPException(422, str(error)) from error


def _no_example(name):
    return HTTPException(404, f"There is no example {name[:LONGEST_NAME]!r}.")


async def _in(pool, function, *args):
    return await asyncio.get_running_loop().run_in_executor(pool, function, *args)


async def _answer_error(request, error):
    text = error.detail if isinstance(error.detail, str) else str(error)
    return JSONResponse({"error": text}, error.status_code, headers=HEADERS)
