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
# # Train on your data
#
# From annotated pictures to a detector of their classes: look at the data, train, score, and see
# where it fails. Some minutes on two CPU cores, without a download.
#
# The data are drawings of toys in COCO's form, 20 classes of 5 shapes in 4 colors. For your own,
# change the two `load_coco` lines: `load_voc`, `load_yolo`, `load_csv` and `load_tfds` take other
# forms, see `docs/data.md`.

# %%
# !python ../walks/make_coco_file.py runs/toys

# %%
import keras
import matplotlib.pyplot as plt
from PIL import Image

import keras_gflv2
from keras_gflv2 import data, evaluation, visualization

keras.utils.set_random_seed(0)

# %% [markdown]
# ## Load
#
# `train=True` shuffles and changes the pictures at random: here half of them are mirrored. A
# dataset is a `tf.data.Dataset` that knows its classes.

# %%
options = {"image_size": (160, 160), "batch_size": 8}
folder = "runs/toys"
train_ds = data.load_coco(f"{folder}/train.json", f"{folder}/images", train=True, seed=0, **options)
val_ds = data.load_coco(f"{folder}/val.json", f"{folder}/images", **options)
train_ds.num_images, val_ds.num_images, train_ds.class_names[:4]

# %% [markdown]
# ## Look at the data before anything else
#
# `check` reads every picture and says what would spoil a training: missing files, boxes outside of
# their picture, classes that one split does not have, the same picture in both splits.

# %%
report = data.check({"train": train_ds, "val": val_ds}, image_size=(160, 160))
print(report)

# %% [markdown]
# The contact sheet has pictures of what was found and of each class; these are the first rows.

# %%
report.contact_sheet().crop((0, 0, 960, 600))

# %% [markdown]
# ## Train
#
# With few pictures, start from a detector that has been trained on something else. `nano_bccd`
# knows blood cells; its last layer starts anew for the 20 classes. For photos of everyday things
# `r50_coco` is the better start (it is downloaded once). The recipe `finetune` chooses the
# optimizer and its schedule.

# %%
model = keras_gflv2.GFLV2.from_preset(
    "nano_bccd", class_names=train_ds.class_names, image_size=(160, 160)
)
model.compile(recipe="finetune")
metrics = evaluation.COCOMetrics(val_ds, best_model="runs/toys/best.keras", verbose=0)
history = model.fit(train_ds, epochs=8, callbacks=[metrics], verbose=0)

# %%
figure, axes = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
epochs = range(1, len(history.history["loss"]) + 1)
axes[0].plot(epochs, history.history["loss"], marker=".")
axes[0].set(title="Loss", xlabel="epoch")
for name in ("val_AP", "val_AP50"):
    axes[1].plot(epochs, history.history[name], marker=".", label=name.removeprefix("val_"))
axes[1].set(title="Average precision on the validation pictures", xlabel="epoch", ylim=(0, 1))
axes[1].legend()
plt.show()

# %% [markdown]
# ## Score it
#
# The metrics are those of COCO, computed by pycocotools. `AP50` says whether objects are found at
# all, `AP75` whether their boxes are good.

# %%
model = keras.saving.load_model("runs/toys/best.keras")
scores = evaluation.evaluate_coco(model, val_ds, verbose=0)
{name: round(scores[name], 3) for name in ("AP", "AP50", "AP75", "APs", "APm")}

# %%
worst = sorted(scores["per_class"].items(), key=lambda row: row[1])[:5]
for name, value in worst:
    print(f"{name:14} {value:.3f}")

# %% [markdown]
# ## See what it does
#
# The truth is on the left. `keras-gflv2 evaluate --report report.html` writes a page with curves,
# confusions and the worst errors as pictures; see `docs/report.md`.

# %%
visualization.draw_validation(model, val_ds, 4)

# %% [markdown]
# ## Use it

# %%
photo = "runs/toys/images/val_0003.jpg"
found = model.detect(photo, score_threshold=0.4)[0]
visualization.draw_detections(
    Image.open(photo).resize((480, 480)), found | {"boxes": 3 * found["boxes"]}
)

# %% [markdown]
# `model.save` and `model.save_to_preset` keep the detector, and the notebook `serving` puts one
# behind a server. The same as commands, with checkpoints that survive an interruption:
# `docs/walk_coco.md`.
