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
# # Quick start
#
# A detector in five lines, and what its answers mean. Nothing is downloaded: `nano_bccd`, a small
# detector of blood cells, comes with the package, and six photos with it are in `examples/cells`.
# Some seconds on a CPU.
#
# Before: `pip install -e .` in a clone of the repository, as `docs/get_started.md` says.

# %%
import numpy as np
from PIL import Image

import keras_gflv2
from keras_gflv2.visualization import draw_detections

model = keras_gflv2.GFLV2.from_preset("nano_bccd")
model.class_names, f"{model.count_params():,} weights"

# %% [markdown]
# ## Detect
#
# `detect` takes file names, arrays or pictures of any size, one or many, and returns a dictionary
# for each. Boxes are left, top, right, bottom in pixels of the photo.

# %%
photo = "../cells/images/BloodImage_00028.jpg"
found = model.detect(photo, score_threshold=0.4)[0]
{name: np.shape(value) for name, value in found.items()}

# %%
for name, box, confidence in zip(found["class_names"], found["boxes"], found["confidence"]):
    print(f"{name:10} {confidence:.2f}  {np.round(box).astype(int)}")

# %%
draw_detections(photo, found)

# %% [markdown]
# ## How sure is it of each side?
#
# The detector knows how far each side of a box may be off. `coverage=0.9` asks for intervals that
# hold the true side with a probability of 90 %; they are drawn as bands. They are narrow where a
# cell stands alone and wide where cells overlap. The notebook `uncertainty` is about them.

# %%
found = model.detect(photo, score_threshold=0.4, coverage=0.9)[0]
draw_detections(photo, found, draw_intervals=True)

# %%
surest, *_, least_sure = np.argsort(found["uncertainties"].max(axis=1))
for index in (surest, least_sure):
    print(found["class_names"][index], np.round(found["boxes"][index], 1))
    for side, ends in zip(("left", "top", "right", "bottom"), found["intervals"][index]):
        print(f"  {side:6} between {ends[0]:5.1f} and {ends[1]:5.1f}")

# %% [markdown]
# ## Many photos
#
# Photos may differ in size. Each is resized and padded as in training, and those of one size run
# together.

# %%
sizes = [(640, 480), (320, 240), (500, 480)]
photos = [np.asarray(Image.open(photo).resize(size)) for size in sizes]
for size, found in zip(sizes, model.detect(photos, score_threshold=0.4)):
    names, counts = np.unique(found["class_names"], return_counts=True)
    print(size, dict(zip(names.tolist(), counts.tolist())))

# %% [markdown]
# ## It is a Keras model
#
# `predict` takes arrays of one size and returns arrays that are padded with -1, as KerasCV does.
# The model can be trained, saved and loaded as any other.

# %%
images = np.stack([np.asarray(Image.open(photo).resize((320, 240)), "float32")])
{name: value.shape for name, value in model.predict(images, verbose=0).items()}

# %% [markdown]
# ## What next
#
# - `your_data`: train it on classes of your own.
# - `uncertainty`: what the bands promise, and how to check it.
# - `serving`: a server, and a detector without Keras.
