"""A small stand-in for TF Serving, where that is not installed: to try out what was exported.

    python examples/model_server.py cells saved_models/cells --rest-port 8501 --grpc-port 8500

Serves the highest version in the folder by TF Serving's two protocols, to this machine alone, and
prints one line with its addresses when it is ready. It needs TensorFlow and
`tensorflow-serving-api` (the extra `serving`) and, like the real server, not this package. One
process without batching: for tests and first tries, not for production.
"""

import argparse
import base64
import json
import sys
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import grpc
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

MAX_MESSAGE_BYTES = 256 << 20


class Servable:
    """The newest version of a model, as TF Serving picks it."""

    def __init__(self, name, folder):
        self.name = name
        self.version = max(int(p.name) for p in Path(folder).iterdir() if p.name.isdigit())
        self.loaded = tf.saved_model.load(f"{folder}/{self.version}")

    def run(self, name, signature, version, inputs):
        """Outputs of a signature; LookupError if there is no such model, version or signature."""
        if name != self.name or version not in (None, self.version):
            raise LookupError(f"Servable not found for request: Specific({name}, {version})")
        function = self.loaded.signatures.get(signature or "serving_default")
        if function is None:
            raise LookupError(f"Serving signature name: {signature} not found")
        return function(**inputs)

    def specification(self, signature):
        function = self.loaded.signatures.get(signature or "serving_default")
        return function.structured_input_signature[1] if function else {}


class Prediction(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, servable):
        self.servable = servable

    def Predict(self, request, context):
        spec = request.model_spec
        version = spec.version.value if spec.HasField("version") else None
        inputs = {k: tf.constant(tf.make_ndarray(v)) for k, v in request.inputs.items()}
        try:
            outputs = self.servable.run(spec.name, spec.signature_name, version, inputs)
        except LookupError as error:
            context.abort(grpc.StatusCode.NOT_FOUND, str(error))
        except tf.errors.OpError as error:
            context.abort(grpc.StatusCode.INTERNAL, error.message)
        answer = predict_pb2.PredictResponse()
        for key, value in outputs.items():
            answer.outputs[key].CopyFrom(tf.make_tensor_proto(value.numpy()))
        return answer


def rest_handler(servable):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            # /v1/models/NAME[/versions/N]:predict
            path, _, verb = self.path.rpartition(":")
            parts = path.strip("/").split("/")
            version = int(parts[4]) if len(parts) == 5 else None
            try:
                assert parts[:2] == ["v1", "models"] and verb == "predict", self.path
                answer = self.predict(parts[2], version, body)
            except LookupError as error:
                self.reply(404, {"error": str(error)})
            except (AssertionError, tf.errors.OpError, ValueError, TypeError) as error:
                self.reply(400, {"error": str(error)})
            else:
                self.reply(200, answer)

        def predict(self, name, version, body):
            signature = body.get("signature_name")
            spec = servable.specification(signature)
            columns = {
                key: tf.constant([decoded(row[key]) for row in body["instances"]], spec[key].dtype)
                for key in body["instances"][0]
            }
            found = servable.run(name, signature, version, columns)
            found = {key: value.numpy().tolist() for key, value in found.items()}
            count = len(next(iter(found.values())))
            rows = [{key: texts(found[key][i]) for key in found} for i in range(count)]
            return {"predictions": rows}

        def reply(self, code, content):
            data = json.dumps(content).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *arguments):
            pass

    return Handler


def decoded(value):
    """{"b64": ...} is bytes."""
    return base64.b64decode(value["b64"]) if isinstance(value, dict) else value


def texts(value):
    if isinstance(value, list):
        return [texts(v) for v in value]
    return value.decode() if isinstance(value, bytes) else value


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("name", help="name of the model in addresses")
    parser.add_argument("folder", help="folder with versions: FOLDER/1, FOLDER/2, ...")
    for option in ("--rest-port", "--grpc-port"):
        parser.add_argument(option, type=int, default=0, help="a free one if not given")
    given = parser.parse_args()
    servable = Servable(given.name, given.folder)
    rest = ThreadingHTTPServer(("localhost", given.rest_port), rest_handler(servable))
    names = ("grpc.max_send_message_length", "grpc.max_receive_message_length")
    options = [(option, MAX_MESSAGE_BYTES) for option in names]
    server = grpc.server(futures.ThreadPoolExecutor(4), options=options)
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
        Prediction(servable), server
    )
    port = server.add_insecure_port(f"localhost:{given.grpc_port}")
    server.start()
    assert "keras_gflv2" not in sys.modules
    addresses = {"http": rest.server_address[1], "grpc": port}
    urls = [f"{kind}://localhost:{port}/{given.name}" for kind, port in addresses.items()]
    print("Serving", *urls, flush=True)
    rest.serve_forever()


if __name__ == "__main__":
    main()
