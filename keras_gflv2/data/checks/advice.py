"""Which image size, recipe and options suit a dataset."""

import numpy as np

from keras_gflv2.data.checks.annotations import FEW_BOXES

SHORT_SIDES = (320, 416, 512, 640, 800, 960)
WANTED_SIDE = 16  # pixels: two of the finest locations
WANTED_PART = 0.95  # of the boxes
MULTIPLE = 32  # of the padded image
PAPER_SCALE = 10_000  # images from which the paper's schedules have enough steps
RARE_PART = 0.05  # of the images


def suggest(parts, counts, boxes):
    """`DataReport.suggestion`: {"image_size", "recipe", "options", "reasons"}.

    Args:
        parts: {split: `Annotations`}, the training data first.
        counts: {split: what `annotations.count` returns}.
        boxes: what `sizes.boxes_at` returns.
    """
    sizes = np.array([(r.height, r.width) for part in parts.values() for r in part.records])
    if not len(sizes) or not len(boxes["box"]):
        return {}
    image_size, reason = _image_size(parts, sizes, boxes)
    reasons = [reason]
    count = next(iter(counts.values()))
    if count["images"] >= PAPER_SCALE:
        recipe, options = "1x", ["--recipe 1x"]
        reasons.append(f"With {count['images']} images the paper's 1x schedule has enough steps.")
    else:
        recipe, options = "finetune", ["--recipe finetune", "--model r50_coco"]
        reasons.append(
            f"With {count['images']} images start from a pretrained detector (`keras-gflv2 "
            "presets` lists them)."
        )
    rare = [
        name
        for name, images in count["images_of_class"].items()
        if 0 < images < RARE_PART * count["images"] and count["classes"][name] >= FEW_BOXES
    ]
    if rare:
        options.append(f"--class-balance {RARE_PART}")
        reasons.append(
            f"{', '.join(rare[:5])}: in fewer than {RARE_PART:.0%} of the images, shown more often."
        )
    return {"image_size": image_size, "recipe": recipe, "options": options, "reasons": reasons}


def _image_size(parts, sizes, boxes):
    """The smallest size at which nearly all boxes are large enough, and why."""
    ratio = float(np.median(sizes.max(1) / sizes.min(1)))
    own_short = float(np.median(sizes.min(1)))
    records = [parts[split].records[i] for split, i in zip(boxes["split"], boxes["image"])]
    side = np.sqrt((boxes["box"][:, 2:] - boxes["box"][:, :2]).prod(-1))
    side_of_one = side / np.array([min(record.height, record.width) for record in records])
    # Beyond their own size, images gain nothing that is there to be seen.
    own = max(MULTIPLE, round(own_short / MULTIPLE) * MULTIPLE)
    candidates = [short for short in SHORT_SIDES if short < own] + [min(own, SHORT_SIDES[-1])]
    enough = [s for s in candidates if (side_of_one * s >= WANTED_SIDE).mean() >= WANTED_PART]
    short = enough[0] if enough else candidates[-1]
    longest = max(round(short * ratio / MULTIPLE) * MULTIPLE, short)
    part = (side_of_one * short >= WANTED_SIDE).mean()
    reason = (
        f"At ({short}, {longest}) {part:.0%} of the boxes have a side of {WANTED_SIDE} pixels or "
        f"more; the images themselves have a short side of {own_short:.0f} (median)."
    )
    return [int(short), int(longest)], reason
