"""A client of TF Serving for the signature `serving_bytes`: pictures in, detections out."""

import base64
import http.client
import io
import json
import os
import re
import urllib.error
import urllib.parse
import urllib.request

import numpy as np
from PIL import Image

from keras_gflv2.detections import Detections
from keras_gflv2.images import read_image
from keras_gflv2.intervals import check_coverage, conformal_intervals
from keras_gflv2.tiles import DEFAULT_OVERLAP, merge_tiles, tiles_of

SIGNATURE = "serving_bytes"
CALIBRATION = "calibration"  # the signature of calibrated detectors, and its output
OUTPUTS = ("boxes", "classes", "confidence", "class_names", "status")
# Only of detectors with distributions, and not of exports of earlier versions.
OPTIONAL_OUTPUTS = ("uncertainties",)
# The defaults of gRPC (4 MB) are too small for a batch of photographs.
MAX_MESSAGE_BYTES = 256 << 20
# /MODEL or /v1/models/MODEL/versions/1:predict.
PATH = re.compile(r"/*(v1/models/)?(?P<model>[^/:]+)?(/versions/(?P<version>\d+))?(:predict)?/*")


class ServingError(OSError):
    """The server cannot be reached, refused the request, or does not have the model."""


class ServingClient:
    """Detections by a server that an exported detector runs on.

    Args:
        url: `http://HOST:8501` (REST) or `grpc://HOST:8500` (gRPC, which needs the extra
            `serving`); `/MODEL` after it names the model if `model_name` does not. TF Serving's own
            `http://HOST:8501/v1/models/MODEL/versions/1:predict` is understood, too.
        model_name: name of the model on the server.
        version: whole number; the newest if None.
        timeout: seconds for a request.

    >>> client = ServingClient("grpc://localhost:8500/nano_bccd")
    >>> client.detect(["cells.jpg"], score_threshold=0.3)[0]["boxes"]
    """

    def __init__(
        self,
        url: str,
        model_name: str | None = None,
        version: int | None = None,
        timeout: float = 60.0,
    ):
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https", "grpc") or not parts.netloc:
            raise ValueError(
                f"`url` must be http://HOST:PORT or grpc://HOST:PORT, got {url!r}. TF Serving's "
                "ports are 8501 for http and 8500 for grpc."
            )
        path = PATH.fullmatch(parts.path)
        if path is None:
            raise ValueError(
                f"`url` has the path {parts.path!r}. Expected nothing, /MODEL, or TF Serving's "
                "/v1/models/MODEL, with /versions/NUMBER and :predict if you like."
            )
        self.model_name = model_name or urllib.parse.unquote(path["model"] or "")
        if not self.model_name:
            raise ValueError(f"Which model of {url}? Pass `model_name`, or {url}/MODEL.")
        if version is None and path["version"]:
            version = int(path["version"])
        self.url, self.version, self.timeout = url, version, timeout
        self._send = self._grpc if parts.scheme == "grpc" else self._rest
        self._address = parts.netloc
        self._base = f"{parts.scheme}://{parts.netloc}"
        self._stub = None
        self._calibration = None

    def detect(
        self,
        images,
        score_threshold=0.3,
        batch_size=8,
        *,
        coverage=None,
        tile=None,
        overlap=DEFAULT_OVERLAP,
    ):
        """Detections in images of any sizes, in each image's own pixels, as a detector's `detect`.

        Args:
            images: one or a list of paths, encoded bytes, PIL images or arrays. Files are sent as
                they are; of the others what `images.read_image`, and so a detector, sees.
            score_threshold: detections below are left out. The export has a threshold, too.
            batch_size: images per request.
            coverage: probability with which "intervals" hold the true sides, as in a detector's
                `detect`. It needs an export of a calibrated detector.
            tile, overlap: large images are sent in tiles, as in a detector's `detect`. The server
                resizes each by itself: images that are smaller than a tile are as large as one.

        Returns:
            List of a dictionary an image: "boxes" (n, 4) float32 xyxy in pixels, "classes" (n,),
            "confidence" (n,), "class_names" (list of n strings) and "status": "ok", or why the
            server could not read the image, which then has no detections. Also "uncertainties"
            (n, 4), the standard deviation of the left, top, right and bottom side in pixels, if the
            detector has distributions and was exported with them: earlier versions did not. With
            `coverage` also "intervals" (n, 4, 2), lower and upper end for each side.

        Raises:
            ServingError: no answer within `timeout`, an error of the server, or an answer that is
                not one of such a model.
            FileNotFoundError: the path does not exist.
            ValueError: the path is a folder, or the array or PIL image is not a picture; or there
                are no intervals of that coverage.
        """
        if coverage is not None:
            check_coverage(coverage)
        if not isinstance(images, (list, tuple)):
            images = [images]
        if tile is None:
            results = self._detect_whole(images, score_threshold, batch_size)
        else:
            parts = (self._detect_tiles(i, batch_size, tile, overlap) for i in images)
            results = [found.rows(found["confidence"] > score_threshold) for found in parts]
        if coverage is not None and results:
            table = self._table()
            for found in results:
                sides = found["boxes"], found["uncertainties"]
                found["intervals"] = conformal_intervals(*sides, coverage, table)
        return results

    def _detect_whole(self, images, score_threshold, batch_size):
        results = []
        for start in range(0, len(images), batch_size):
            encoded = [_encoded(image) for image in images[start : start + batch_size]]
            answer = self._checked(self._send(encoded), len(encoded))
            results += [_result(answer, row, score_threshold) for row in range(len(encoded))]
        return results

    def _detect_tiles(self, image, batch_size, tile, overlap):
        """The detections of one image, in tiles."""
        pixels = read_image(image)
        tiles = tiles_of(pixels.shape[:2], tile, overlap)
        found = self._detect_whole([one.cut_from(pixels) for one in tiles], 0.0, batch_size)
        status = next((one.pop("status") for one in found if one["status"] != "ok"), "ok")
        names = {}
        for one in found:
            names.update(zip(one["classes"].tolist(), one.pop("class_names")))
            one.pop("status", None)
        merged = merge_tiles(tiles, found)
        class_names = [names[label] for label in merged["classes"].tolist()]
        return Detections(merged, class_names=class_names, status=status)

    def _table(self):
        """The calibration of the detector, asked for once."""
        if self._calibration is None:
            try:
                answer = self._send([b""], CALIBRATION)
                self._calibration = json.loads(_text(np.asarray(answer[CALIBRATION]).item()))
            except (ServingError, KeyError, ValueError) as error:
                raise ServingError(
                    f"`coverage` needs the calibration of the model {self.model_name!r}, which the "
                    f"server does not have: {error} Run keras-gflv2 calibrate, then export again."
                ) from error
        return self._calibration

    def _checked(self, answer, count):
        """The outputs as arrays of the right shape, or a `ServingError` that says what is not."""
        missing = [name for name in OUTPUTS if name not in answer]
        if missing:
            raise ServingError(
                f"The answer of the model {self.model_name!r} has no {', '.join(missing)}. It has "
                f"{', '.join(map(str, answer)) or 'nothing'}: is it an export of this package?"
            )
        names = [*OUTPUTS, *(name for name in OPTIONAL_OUTPUTS if name in answer)]
        answer = {name: np.asarray(answer[name]) for name in names}
        rows = answer["confidence"].shape[:2]
        all_shapes = {"boxes": (*rows, 4), "uncertainties": (*rows, 4), "status": (count,)}
        expected = {name: all_shapes.get(name, rows) for name in names}
        shapes = {name: value.shape for name, value in answer.items()}
        texts = ("class_names", "status")
        numeric = all(answer[name].dtype.kind in "fiu" for name in names if name not in texts)
        if len(rows) != 2 or rows[0] != count or shapes != expected or not numeric:
            raise ServingError(
                f"The answer of the model {self.model_name!r} to {count} images is malformed: it "
                f"has the shapes {shapes}."
            )
        return answer

    def _rest(self, encoded, signature=SIGNATURE):
        """One request by TF Serving's REST API, in its row format."""
        version = "" if self.version is None else f"/versions/{self.version}"
        name = urllib.parse.quote(self.model_name)
        url = f"{self._base}/v1/models/{name}{version}:predict"
        rows = [{"image_bytes": {"b64": base64.b64encode(e).decode()}} for e in encoded]
        body = json.dumps({"signature_name": signature, "instances": rows}).encode()
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=self.timeout) as response:
                answer = json.load(response)
            rows = answer["predictions"]
            names = set.intersection(*(set(row) for row in rows))
            return {name: np.array([row[name] for row in rows]) for name in names}
        except urllib.error.HTTPError as error:
            raise ServingError(f"{url} answered {error.code}: {_body(error)}") from error
        except (OSError, http.client.HTTPException) as error:
            reason = str(error) or type(error).__name__
            raise ServingError(self._failure(f"{type(error).__name__}: {reason}")) from error
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ServingError(
                f"{url} answered with something that is not TF Serving's JSON of predictions "
                f"({type(error).__name__}: {error})."
            ) from error

    def _grpc(self, encoded, signature=SIGNATURE):
        """One request by gRPC's PredictionService."""
        grpc, predict_pb2, tf = self._connect()
        size = sum(len(content) for content in encoded)
        if size > MAX_MESSAGE_BYTES:
            raise ServingError(
                f"A request of {len(encoded)} images has {size / 2**20:.0f} MB; gRPC messages are "
                f"limited to {MAX_MESSAGE_BYTES >> 20} MB here. Pass a smaller `batch_size`."
            )
        request = predict_pb2.PredictRequest()
        request.model_spec.name = self.model_name
        request.model_spec.signature_name = signature
        if self.version is not None:
            request.model_spec.version.value = self.version
        request.inputs["image_bytes"].CopyFrom(tf.make_tensor_proto(encoded))
        try:
            answer = self._stub.Predict(request, self.timeout)
            return {name: tf.make_ndarray(value) for name, value in answer.outputs.items()}
        except grpc.RpcError as error:
            raise ServingError(self._failure(f"{error.code().name}: {error.details()}")) from error
        except (TypeError, ValueError) as error:  # tensors of a kind or a shape that cannot be
            raise ServingError(self._failure(f"malformed tensors: {error}")) from error

    def _connect(self):
        try:
            import grpc
            from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc
        except ImportError as error:
            raise ServingError(
                "grpc:// needs tensorflow-serving-api: pip install 'keras-gflv2[serving]', or use "
                "http://HOST:8501."
            ) from error
        import tensorflow as tf

        if self._stub is None:
            names = ("grpc.max_send_message_length", "grpc.max_receive_message_length")
            options = [(name, MAX_MESSAGE_BYTES) for name in names]
            channel = grpc.insecure_channel(self._address, options)
            self._stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        return grpc, predict_pb2, tf

    def _failure(self, error):
        return f"The model {self.model_name!r} of the server {self._base} gave no answer: {error}"


def _encoded(image):
    """The bytes of a file as they are; PNG of the pixels that `read_image` sees."""
    if isinstance(image, (bytes, bytearray)):
        return bytes(image)
    if isinstance(image, (str, os.PathLike)):
        try:
            with open(image, "rb") as file:
                return file.read()
        except FileNotFoundError:
            raise FileNotFoundError(f"The image file {os.fspath(image)} does not exist.") from None
        except OSError as error:
            raise ValueError(f"{os.fspath(image)} cannot be read: {error.strerror}.") from error
    stream = io.BytesIO()
    Image.fromarray(read_image(image)).save(stream, "PNG")
    return stream.getvalue()


def _body(error):
    """What a server says of an error, as far as it can be read."""
    try:
        return error.read().decode(errors="replace")[:500]
    except (OSError, http.client.HTTPException):
        return error.reason


def _result(answer, row, score_threshold):
    confidence = np.asarray(answer["confidence"][row], "float32")
    keep = confidence > max(score_threshold, 0.0)  # padding is -1
    sides = [name for name in ("boxes", *OPTIONAL_OUTPUTS) if name in answer]
    return Detections(
        **{n: np.asarray(answer[n][row], "float32").reshape(-1, 4)[keep] for n in sides},
        classes=np.asarray(answer["classes"][row], "int32")[keep],
        confidence=confidence[keep],
        class_names=[_text(name) for name in answer["class_names"][row][keep]],
        status=_text(answer["status"][row]),
    )


def _text(value):
    return value.decode() if isinstance(value, bytes) else str(value)
