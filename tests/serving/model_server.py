"""TF Serving's two protocols in front of a SavedModel, for tests: `model_server.py NAME FOLDER`.

Imports TensorFlow and the protocol's own classes alone, as the real server would have no Python of
this package. Prints the ports of REST and gRPC and serves until it is killed.
"""

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


def main(name, folder):
    servable = Servable(name, folder)
    rest = ThreadingHTTPServer(("localhost", 0), rest_handler(servable))
    names = ("grpc.max_send_message_length", "grpc.max_receive_message_length")
    options = [(option, MAX_MESSAGE_BYTES) for option in names]
    server = grpc.server(futures.ThreadPoolExecutor(4), options=options)
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
        Prediction(servable), server
    )
    port = server.add_insecure_port("localhost:0")
    server.start()
    assert not {"keras_gflv2"} & set(sys.modules)
    print(rest.server_address[1], port, flush=True)
    rest.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
