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
# # How sure is it of a side?
#
# Most detectors give a box and a score. The score says whether there is an object; it does not say
# that the left side may be ten pixels off because another cell covers it. This notebook shows
# where such a statement comes from, what it promises, and how to check it. Under a minute on a
# CPU, without a download.

# %%
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

import keras_gflv2
from keras_gflv2 import data, evaluation
from keras_gflv2.visualization import draw_detections, figures

model = keras_gflv2.GFLV2.from_preset("nano_bccd")
cells = data.load_voc("../cells", image_size=(240, 320), batch_size=1)
Path("runs").mkdir(exist_ok=True)
photo = "../cells/images/BloodImage_00064.jpg"

# %% [markdown]
# ## A side is a distribution
#
# For each side the detector predicts how likely each distance is (17 bins, in strides of the
# level). The box is the mean of the distributions. Below are the sharpest and the flattest box in
# six photos: bars stand where their bins are in the photo, green is the detected box, dashed the
# box that a person drew.

# %%
examples = figures.side_distributions(figures.scenes_of(model, cells))
figures.draw_side_distributions(examples, "runs/sides.png")
Image.open("runs/sides.png").convert("RGB")

# %% [markdown]
# ## From a distribution to a number
#
# The spread of a distribution, times a factor that a *calibration* has measured, is the standard
# deviation of the error of the side, in pixels of the photo: `found["uncertainties"]`.
# `coverage=0.9` makes intervals of it.

# %%
found = model.detect(photo, score_threshold=0.4, coverage=0.9)[0]
draw_detections(photo, found, draw_intervals=True)

# %% [markdown]
# ## Does it notice what it cannot see?
#
# Take the cell whose sides it is surest of, and paint over the right third of it. Nobody tells the
# detector that something is covered; the deviation of the right side grows, and that of the other
# three much less.

# %%
pixels = np.asarray(Image.open("../cells/images/BloodImage_00028.jpg"))
before = model.detect(pixels, score_threshold=0.4, coverage=0.9)[0]
surest = before["uncertainties"].max(axis=1).argmin()
left, top, right, bottom = np.round(before["boxes"][surest]).astype(int)
covered = pixels.copy()
covered[top - 10 : bottom + 10, right - (right - left) // 3 : right + 15] = (200, 195, 200)
after = model.detect(covered, score_threshold=0.4, coverage=0.9)[0]
same = np.abs(after["boxes"] - before["boxes"][surest])[:, :2].sum(axis=1).argmin()

# %%
around = (left - 60, top - 60, right + 60, bottom + 60)
pair = Image.new("RGB", (2 * (right - left + 120), bottom - top + 120))
for column, (image, found, index) in enumerate([(pixels, before, surest), (covered, after, same)]):
    one = {key: value[index : index + 1] for key, value in found.items()}
    picture = draw_detections(image, one, draw_intervals=True).crop(around)
    pair.paste(picture, (column * picture.width, 0))
pair.resize((2 * pair.width, 2 * pair.height))

# %%
figure, axes = plt.subplots(figsize=(6, 3), layout="constrained")
places = np.arange(4)
axes.bar(places - 0.2, before["uncertainties"][surest], 0.4, label="whole cell")
axes.bar(places + 0.2, after["uncertainties"][same], 0.4, label="right third covered")
axes.set_xticks(places, ["left", "top", "right", "bottom"])
axes.set(title="Standard deviation of each side", ylabel="pixels")
axes.legend()
plt.show()

# %% [markdown]
# ## Is it true?
#
# Count it: of all detections that match a cell, how many true sides lie in their intervals? (These
# six photos are among the 87 of the calibration. What it is on photos that were not is in
# `docs/uncertainty.md`: 90.2 % where 90 % were asked for.)

# %%
result = evaluation.uncertainty(model, cells, verbose=0)
print(f"{result['num_matched']} detections match one of {result['num_objects']} cells")
for row in result["curve"]:
    if row["side"] == "all":
        print(
            f"{row['nominal']:4.0%} asked for, {row['coverage']:6.1%} held, "
            f"{row['width']:5.1f} pixels wide on average"
        )

# %% [markdown]
# ## Calibrate a detector of your own
#
# A detector that you trained has no calibration yet: its distributions order the errors, but are
# not as large as these. `calibrate` measures the factors on images with objects that it was not
# trained on. Some hundreds of objects will do; of the 108 here it warns that they are few.

# %%
mine = keras_gflv2.GFLV2.from_preset("nano_bccd", calibration=None)
calibration = evaluation.calibrate(mine, cells, verbose=0)
dict(zip(("left", "top", "right", "bottom"), np.round(calibration.scale, 2).tolist()))

# %% [markdown]
# From now on `mine.detect(photo, coverage=0.9)` has intervals, and `save`, `save_to_preset` and
# all exports keep the calibration. As a command: `keras-gflv2 calibrate --model my_run --data
# voc:my_data:val --output calibrated`.
#
# ## What is not promised
#
# - The intervals are of detections that *are* a cell. A detection that is none has intervals, too.
# - They hold for photos like those of the calibration.
# - 90 % is an average over easy and hard sides, and of each side alone, not of all four of a box
#   together.
