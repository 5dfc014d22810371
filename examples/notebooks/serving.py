# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Serving
#
# From a detector to a server that takes image files and returns boxes, and to a file that runs
# without Keras and TensorFlow. Under a minute on a CPU.
#
# Before: `pip install -e ".[serving,onnx]"` in a clone of the repository.

# %%
import subprocess
import sys

import numpy as np
import onnxruntime
from PIL import Image

import keras_gflv2
from keras_gflv2 import serving, visualization

model = keras_gflv2.GFLV2.from_preset("nano_bccd")
photos = ["../cells/images/BloodImage_00000.jpg", "../cells/images/BloodImage_00014.jpg"]

# %% [markdown]
# ## Export
#
# TF Serving wants a folder for the model and in it one for each version. The export has decoding,
# non-maximum suppression and the reading of image files inside; neither Keras nor this package is
# needed to run it.

# %%
serving.export_saved_model(model, "runs/served/cells/1", overwrite=True)

# %% [markdown]
# ## A server
#
# In production this is `tensorflow_model_server` (`docs/deployment.md` has the command and a
# docker-compose file). Where that is not installed, `examples/model_server.py` speaks its
# protocols. It writes a line with its addresses when it is ready.

# %%
server = subprocess.Popen(
    [sys.executable, "../model_server.py", "cells", "runs/served/cells"],
    stdout=subprocess.PIPE,
    stderr=subprocess.DEVNULL,
    text=True,
)
_, rest, grpc = server.stdout.readline().split()
print("ready")

# %% [markdown]
# ## Ask it
#
# The client sends files as they are. It needs numpy and Pillow; `grpc://` addresses need the extra
# `serving`.

# %%
client = serving.ServingClient(rest)
answers = client.detect(photos, score_threshold=0.4, coverage=0.9)
for photo, answer in zip(photos, answers):
    print(photo.rpartition("/")[2], answer["status"], len(answer["boxes"]), "cells")

# %%
visualization.draw_detections(photos[0], answers[0], draw_intervals=True)

# %% [markdown]
# The server answers what the model says, to rounding, over both protocols:

# %%
for url in (rest, grpc):
    answers = serving.ServingClient(url).detect(photos, score_threshold=0.4)
    differences = [
        np.abs(answer["boxes"] - found["boxes"]).max()
        for answer, found in zip(answers, model.detect(photos, score_threshold=0.4))
    ]
    print(url.partition(":")[0], f"largest difference {max(differences):.4f} pixels")

# %% [markdown]
# A file that is no image costs its own answer and no other:

# %%
for answer in client.detect([b"not an image", photos[1]], score_threshold=0.4):
    print(answer["status"], "-", len(answer["boxes"]), "cells")

# %% [markdown]
# Any language can ask it: the request is JSON with the file in base64, sent to
# `http://HOST:8501/v1/models/cells:predict`. `saved_models/README.md` has it as one line of
# `curl`.

# %%
server.terminate()
# %% [markdown]
# ## Without a server
#
# ONNX, OpenVINO and LiteRT files hold the whole detector, too. This one takes images as an array
# (B, H, W, 3) of 0..255 and needs `onnxruntime` alone.

# %%
serving.export_format(model, "runs/cells.onnx", "onnx")

# %%
session = onnxruntime.InferenceSession("runs/cells.onnx")
image = np.asarray(Image.open(photos[0]).resize((320, 240)), "float32")[None]
names = [output.name for output in session.get_outputs()]
outputs = dict(zip(names, session.run(None, {"images": image})))
{name: value.shape for name, value in outputs.items()}

# %%
count = int(outputs["num_detections"][0])
expected = model.predict(image, verbose=0)
print(
    "largest difference of the boxes:",
    np.abs(outputs["boxes"] - expected["boxes"])[0, :count].max(),
)

# %% [markdown]
# `docs/deployment.md` has the other formats, their precisions, and what each costs in AP and time.
