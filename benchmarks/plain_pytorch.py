"""GFLV2 in plain PyTorch, eager, channels last: what the speed of this package is compared with.

torch alone, neither Keras nor torchvision. The same network as `keras_gflv2.GFLV2` with a ResNet of
bottlenecks, an 80-class head of 4 + 4 convolutions and the quality predictor; tensors carry
mmdetection's names, so that `keras_gflv2.checkpoints.load_checkpoint` reads its `state_dict`
(`tests/test_plain_pytorch.py` compares outputs, detections, losses and updated weights).

    model = build(num_classes=80)
    found = detect(model, images)                   # (B, H, W, 3) or (B, 3, H, W), RGB 0..255
    optimizer = make_optimizer(model)
    losses = train_step(model, optimizer, images, boxes, labels)    # lists, one tensor per image

`network(model, images)` is the part of `detect` before decoding and NMS.
"""

import torch
import torch.nn.functional as F
from plain_pytorch_network import GFLV2, REG_MAX, STRIDES

CANDIDATES = 9  # of each level and box, in ATSS
ANCHOR_SCALE = 8
NMS_BLOCK = 256


def build(num_classes=80, depth=50):
    """A detector in channels-last memory, ready for `detect` and `train_step`."""
    return GFLV2(num_classes, depth).to(memory_format=torch.channels_last).eval()


def prepare(images):
    """(B, H, W, 3) or (B, 3, H, W) -> (B, 3, H, W) in channels-last memory."""
    images = torch.as_tensor(images, dtype=torch.float32)
    if images.shape[-1] == 3:
        images = images.permute(0, 3, 1, 2)  # a view that is channels-last already
    return images.contiguous(memory_format=torch.channels_last)


def level_points(image_size, stride):
    """(H * W, 2) x and y in pixels of the cells of a level."""
    rows, columns = (-(-side // stride) for side in image_size)
    y, x = torch.meshgrid(
        torch.arange(rows) * float(stride), torch.arange(columns) * float(stride), indexing="ij"
    )
    return torch.stack([x.flatten(), y.flatten()], -1)


def decode(logits, points, strides):
    """Logits (..., 68) at points (..., 2) -> boxes (..., 4), xyxy; `strides` broadcasts."""
    probabilities = logits.unflatten(-1, (4, REG_MAX + 1)).softmax(-1)
    bins = torch.arange(REG_MAX + 1, dtype=logits.dtype)
    distances = probabilities @ bins * strides
    return torch.cat([points - distances[..., :2], points + distances[..., 2:]], -1)


# === Inference ===


@torch.inference_mode()
def network(model, images):
    """What `model` returns for images of 0..255."""
    return model(prepare(images))


@torch.inference_mode()
def detect(model, images, **options):
    """Detections of a batch.

    Args:
        model: a `GFLV2`.
        images: (B, H, W, 3) or (B, 3, H, W), RGB of 0..255; H and W multiples of 32.
        **options: of `select`.

    Returns a list of (boxes (N, 4) xyxy in pixels, scores (N,), classes (N,)), one per image, best
    first.
    """
    images = prepare(images)
    scores, logits = model(images)
    size = images.shape[-2:]
    return [
        select([s[i] for s in scores], [x[i] for x in logits], size, **options)
        for i in range(len(images))
    ]


def select(scores, logits, image_size, threshold=0.05, iou_threshold=0.6, per_level=1000, best=100):
    """Per level the best locations, decoded and cut at the image; then NMS by class."""
    chosen_scores, chosen_boxes = [], []
    for level_scores, level_logits, stride in zip(scores, logits, STRIDES):
        points = level_points(image_size, stride)
        if len(points) > per_level:
            index = level_scores.amax(-1).topk(per_level).indices
            level_scores, level_logits = level_scores[index], level_logits[index]
            points = points[index]
        chosen_scores.append(level_scores)
        chosen_boxes.append(decode(level_logits, points, stride))
    scores, boxes = torch.cat(chosen_scores), torch.cat(chosen_boxes)
    height, width = image_size
    boxes = torch.stack(
        [boxes[:, side].clamp(0, width if side % 2 == 0 else height) for side in range(4)], -1
    )
    location, classes = (scores > threshold).nonzero(as_tuple=True)
    scores, order = scores[location, classes].sort(descending=True, stable=True)
    boxes, classes = boxes[location[order]], classes[order]
    keep = nms(boxes, classes, iou_threshold, best)
    return boxes[keep], scores[keep], classes[keep]


def nms(boxes, classes, iou_threshold, best):
    """Indices of the `best` boxes that remain of boxes that are sorted by their scores.

    Greedy, in blocks: within a block a box is kept unless a kept one before it suppresses it,
    repeated until nothing changes.
    """
    kept = torch.empty(0, dtype=torch.long)
    for start in range(0, len(boxes), NMS_BLOCK):
        block = torch.arange(start, min(start + NMS_BLOCK, len(boxes)))
        free = ~overlaps(boxes, classes, kept, block, iou_threshold).any(0)
        block = block[free]
        suppresses = overlaps(boxes, classes, block, block, iou_threshold).triu_(1)
        keep, previous = torch.ones(len(block), dtype=torch.bool), None
        while previous is None or not torch.equal(keep, previous):
            keep, previous = ~suppresses[keep].any(0), keep
        kept = torch.cat([kept, block[keep]])
        if len(kept) >= best:
            break
    return kept[:best]


def overlaps(boxes, classes, one, other, iou_threshold):
    """Whether boxes of the indices `one` overlap those of `other` of their class too much."""
    iou, _ = iou_and_giou(boxes[one][:, None], boxes[other][None], 1e-12)
    return (iou > iou_threshold) & (classes[one][:, None] == classes[other][None])


def iou_and_giou(one, other, epsilon):
    """IoU and GIoU of boxes (..., 4) that broadcast."""
    area, other_area = ((b[..., 2] - b[..., 0]) * (b[..., 3] - b[..., 1]) for b in (one, other))
    low, high = torch.minimum(one, other), torch.maximum(one, other)
    shared = (low[..., 2:] - high[..., :2]).clamp(min=0).prod(-1)
    union = (area + other_area - shared).clamp(min=epsilon)
    iou = shared / union
    hull = (high[..., 2:] - low[..., :2]).prod(-1).clamp(min=epsilon)
    return iou, iou - (hull - union) / hull


# === Training ===


def make_optimizer(model, learning_rate=0.01):
    """The official recipe's: what is not frozen, with L2 in the gradient."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    return torch.optim.SGD(parameters, learning_rate, momentum=0.9, weight_decay=1e-4)


def train_step(model, optimizer, images, boxes, labels):
    """One update.

    Args:
        model: a `GFLV2`.
        optimizer: of `make_optimizer`.
        images: as for `detect`.
        boxes: list of (N, 4), xyxy in pixels, one per image; N may be 0.
        labels: list of (N,), classes.

    Returns {"classification": ..., "box": ..., "distribution": ...}, floats.
    """
    images = prepare(images)
    optimizer.zero_grad(set_to_none=True)
    scores, logits = (torch.cat(part, 1) for part in model(images))
    losses = compute_losses(scores, logits, images.shape[-2:], boxes, labels)
    sum(losses.values()).backward()
    optimizer.step()
    return {name: loss.item() for name, loss in losses.items()}


def compute_losses(scores, logits, image_size, boxes, labels):
    """Quality focal loss, GIoU loss and distribution focal loss, weighted 1, 2 and 0.25."""
    levels = [level_points(image_size, stride) for stride in STRIDES]
    points = torch.cat(levels)
    strides = torch.cat([torch.full((len(x), 1), float(s)) for x, s in zip(levels, STRIDES)])
    counts = [len(x) for x in levels]
    images, positives, true_boxes, classes = [], [], [], []
    for i, (own_boxes, own_labels) in enumerate(zip(boxes, labels)):
        location, owner = assign(own_boxes, points, strides, counts)
        images.append(torch.full_like(location, i))
        positives.append(location)
        true_boxes.append(own_boxes[owner])
        classes.append(own_labels[owner])
    num_positives = sum(max(len(x), 1) for x in positives)
    image, location, classes = (torch.cat(x) for x in (images, positives, classes))

    points, strides = points[location], strides[location]
    true_boxes = torch.cat(true_boxes) / strides
    points = points / strides
    logits = logits[image, location]  # (P, 68)
    iou, giou = iou_and_giou(decode(logits, points, 1), true_boxes, 1e-7)
    weight = scores.detach()[image, location].amax(-1)
    total = weight.sum().clamp(min=1e-9)

    target = torch.zeros_like(scores)
    target[image, location, classes] = iou.detach()
    cross_entropy = F.binary_cross_entropy(scores, target, reduction="none")
    focal = cross_entropy * (target - scores).square()

    distances = torch.cat([points - true_boxes[:, :2], true_boxes[:, 2:] - points], -1)
    distances = distances.clamp(0, REG_MAX - 0.1).flatten()  # (P * 4,)
    left = distances.long()
    part = distances - left
    sides = logits.reshape(-1, REG_MAX + 1)
    distribution = F.cross_entropy(sides, left, reduction="none") * (1 - part)
    distribution = distribution + F.cross_entropy(sides, left + 1, reduction="none") * part
    return {
        "classification": focal.sum() / num_positives,
        "box": 2.0 * ((1 - giou) * weight).sum() / total,
        "distribution": 0.25 * (distribution.reshape(-1, 4).mean(-1) * weight).sum() / total,
    }


@torch.no_grad()
def assign(boxes, points, strides, counts):
    """ATSS: the positive locations (P,) of an image, and which of its boxes each answers for."""
    num_boxes = len(boxes)
    if not num_boxes:
        return torch.empty(0, dtype=torch.long), torch.empty(0, dtype=torch.long)
    distances = torch.cdist((boxes[:, :2] + boxes[:, 2:]) / 2, points)  # (N, A)
    candidates, start = [], 0
    for count in counts:
        level = distances[:, start : start + count]
        nearest = level.topk(min(CANDIDATES, count), largest=False).indices
        candidates.append(nearest + start)
        start += count
    candidates = torch.cat(candidates, 1)  # (N, K)
    centers, half = points[candidates], strides[candidates] * ANCHOR_SCALE / 2
    anchors = torch.cat([centers - half, centers + half], -1)
    iou, _ = iou_and_giou(anchors, boxes[:, None], 1e-6)
    threshold = iou.mean(1, keepdim=True) + iou.std(1, keepdim=True)
    inside = torch.cat([centers - boxes[:, None, :2], boxes[:, None, 2:] - centers], -1).amin(-1)
    positive = (iou >= threshold) & (inside > 0.01)
    # A location that several boxes claim goes to the one it overlaps most.
    claims = torch.full((num_boxes, len(points)), -1.0)
    claims.scatter_(1, candidates, torch.where(positive, iou, -1.0))
    best, owner = claims.max(0)
    location = (best >= 0).nonzero()[:, 0]
    return location, owner[location]
