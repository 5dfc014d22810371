"""GFLV1 and GFLV2 on a ResNet-18, written a second time: plain PyTorch, dense, in float64.

From the paper and the facts of the official code, with nothing of the package: an assignment that
looks at all anchors, losses on the positives alone, GFLV1's focal loss on logits. It follows the
recorded official GFLV2 run and says what GFLV1's would be, of which no recording is at hand.
"""

import numpy as np
import torch
import torch.nn.functional as F

STRIDES = (8, 16, 32, 64, 128)
FIXED = ("running_mean", "running_var", "num_batches_tracked", "project")


class ReferenceDetector:
    """Losses of training steps of the official detector.

    Args:
        state: dictionary of arrays, the official names.
        num_classes: number of channels of the classification.
        norm_groups: of the head's group normalisation.
        learning_rate, momentum, weight_decay: of SGD.
    """

    def __init__(self, state, num_classes, norm_groups, learning_rate, momentum, weight_decay):
        self.state = {k: torch.tensor(np.asarray(v), dtype=torch.float64) for k, v in state.items()}
        self.is_v2 = any("reg_conf" in name for name in state)
        self.num_classes, self.norm_groups = num_classes, norm_groups
        trained = [v for k, v in self.state.items() if not k.endswith(FIXED)]
        for value in trained:
            value.requires_grad_(True)
        self.optimizer = torch.optim.SGD(trained, learning_rate, momentum, 0, weight_decay)

    def step(self, images, boxes, classes):
        """One update; images (B, 3, H, W) normalised, boxes and classes a list of arrays each."""
        self.image_size = images.shape[-2:]
        x = torch.tensor(images, dtype=torch.float64)
        losses = self.losses(self.head(self.neck(self.backbone(x))), boxes, classes)
        self.optimizer.zero_grad()
        sum(losses.values()).backward()
        self.optimizer.step()
        return {name: float(value.detach()) for name, value in losses.items()}

    # === Network ===

    def conv(self, x, name, stride=1):
        weight, bias = self.state[f"{name}.weight"], self.state.get(f"{name}.bias")
        return F.conv2d(x, weight, bias, stride, weight.shape[-1] // 2)

    def norm(self, x, name):
        names = ("running_mean", "running_var", "weight", "bias")
        return F.batch_norm(x, *(self.state[f"{name}.{n}"] for n in names), eps=1e-5)

    def backbone(self, x):
        x = F.relu(self.norm(self.conv(x, "backbone.conv1", 2), "backbone.bn1"))
        x = F.max_pool2d(x, 3, 2, 1)
        outputs = []
        for stage in (1, 2, 3, 4):
            for block in (0, 1):
                name = f"backbone.layer{stage}.{block}"
                stride = 2 if stage > 1 and block == 0 else 1
                y = F.relu(self.norm(self.conv(x, f"{name}.conv1", stride), f"{name}.bn1"))
                y = self.norm(self.conv(y, f"{name}.conv2"), f"{name}.bn2")
                if f"{name}.downsample.0.weight" in self.state:
                    x = self.conv(x, f"{name}.downsample.0", stride)
                    x = self.norm(x, f"{name}.downsample.1")
                x = F.relu(x + y)
            outputs.append(x)
        return outputs[1:]

    def neck(self, features):
        maps = [self.conv(x, f"neck.lateral_convs.{i}.conv") for i, x in enumerate(features)]
        for i in (1, 0):
            maps[i] = maps[i] + F.interpolate(maps[i + 1], size=maps[i].shape[-2:])
        maps = [self.conv(x, f"neck.fpn_convs.{i}.conv") for i, x in enumerate(maps)]
        for i in (3, 4):
            maps.append(self.conv(maps[-1], f"neck.fpn_convs.{i}.conv", 2))
        return maps

    def head(self, maps):
        """Of all locations: class logits (B, A, C), side logits (B, A, 4, 17), quality or None."""
        found = []
        for i, x in enumerate(maps):
            logits = self.conv(self.tower(x, "cls"), "bbox_head.gfl_cls")
            sides = self.conv(self.tower(x, "reg"), "bbox_head.gfl_reg")
            sides = sides * self.state[f"bbox_head.scales.{i}.scale"]
            found.append([y.flatten(2).transpose(1, 2) for y in (logits, sides)])
        logits, sides = (torch.cat(parts, 1) for parts in zip(*found))
        sides = sides.reshape(*sides.shape[:2], 4, -1)
        return logits, sides, self.quality(sides) if self.is_v2 else None

    def tower(self, x, name):
        for k in range(sum(f"{name}_convs" in key and "conv.weight" in key for key in self.state)):
            convolution = f"bbox_head.{name}_convs.{k}"
            x = self.conv(x, f"{convolution}.conv")
            affine = [self.state[f"{convolution}.gn.{n}"] for n in ("weight", "bias")]
            x = F.relu(F.group_norm(x, self.norm_groups, *affine))
        return x

    def quality(self, sides):
        probabilities = sides.softmax(-1)
        top = probabilities.topk(4, dim=-1)[0]
        x = torch.cat([top, top.mean(-1, keepdim=True)], -1).flatten(2)
        for layer, activation in ((0, F.relu), (2, torch.sigmoid)):
            weight = self.state[f"bbox_head.reg_conf.{layer}.weight"].flatten(1)
            x = activation(F.linear(x, weight, self.state[f"bbox_head.reg_conf.{layer}.bias"]))
        return x

    # === Losses ===

    def losses(self, outputs, boxes, classes):
        logits, sides, quality = outputs
        scores = logits.sigmoid() if quality is None else logits.sigmoid() * quality
        bins = torch.arange(sides.shape[-1], dtype=torch.float64)
        distances = (sides.softmax(-1) * bins).sum(-1)
        target = torch.zeros_like(scores)
        positives, weights, giou, dfl = 0, 0.0, 0.0, 0.0
        for image in range(len(scores)):
            locations, owners, points, strides = assign(boxes[image], self.image_size)
            positives += max(len(locations), 1)
            if not len(locations):
                continue
            points = points / strides[:, None]
            wanted = torch.tensor(boxes[image][owners], dtype=torch.float64) / strides[:, None]
            near, far = distances[image, locations, :2], distances[image, locations, 2:]
            found = torch.cat([points - near, points + far], -1)
            weight = scores[image, locations].detach().max(-1)[0]
            target[image, locations, torch.tensor(classes[image][owners]).long()] = iou(
                found.detach(), wanted, 1e-6
            )[0]
            giou = giou + (weight * (1 - iou(found, wanted, 1e-7)[1])).sum()
            ends = torch.cat([points - wanted[:, :2], wanted[:, 2:] - points], -1)
            ends = ends.clamp(0, len(bins) - 1 - 0.1)
            left = ends.long()
            log = sides[image, locations].log_softmax(-1)
            lower, upper = (log.gather(-1, k[..., None])[..., 0] for k in (left, left + 1))
            cross = -(lower * (left + 1 - ends) + upper * (ends - left))
            dfl = dfl + (weight[:, None] * cross).sum() / 4
            weights += float(weight.sum())
        if quality is None:
            entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
        else:
            entropy = F.binary_cross_entropy(scores, target, reduction="none")
        focal = entropy * (target - scores).abs() ** 2
        return {
            "loss_cls": focal.sum() / positives,
            "loss_bbox": 2 * giou / weights,
            "loss_dfl": 0.25 * dfl / weights,
        }


def iou(one, other, epsilon):
    """IoU and GIoU of boxes (n, 4), pair by pair."""
    sizes = [(b[:, 2:] - b[:, :2]).clamp(min=0) for b in (one, other)]
    overlap = (
        torch.minimum(one[:, 2:], other[:, 2:]) - torch.maximum(one[:, :2], other[:, :2])
    ).clamp(min=0)
    shared = overlap.prod(-1)
    union = sizes[0].prod(-1) + sizes[1].prod(-1) - shared
    hull = torch.maximum(one[:, 2:], other[:, 2:]) - torch.minimum(one[:, :2], other[:, :2])
    hull = hull.prod(-1)
    ratio = shared / union.clamp(min=epsilon)
    return ratio, ratio - (hull - union) / hull.clamp(min=epsilon)


def assign(boxes, image_size):
    """ATSS: positive locations, the box of each, their points and strides."""
    height, width = image_size
    points, strides, ends = [], [], []
    for stride in STRIDES:
        rows, columns = -(-height // stride), -(-width // stride)
        y, x = np.meshgrid(np.arange(rows) * stride, np.arange(columns) * stride, indexing="ij")
        points.append(np.stack([x.ravel(), y.ravel()], -1))
        strides.append(np.full(rows * columns, stride))
        ends.append(sum(map(len, points)))
    points, strides = np.concatenate(points).astype("float64"), np.concatenate(strides)
    best, owner = np.full(len(points), -1.0), np.full(len(points), -1)
    half = 4 * strides[:, None]
    anchors = np.concatenate([points - half, points + half], -1)
    for k, box in enumerate(np.asarray(boxes, "float64")):
        distance = np.linalg.norm(points - (box[:2] + box[2:]) / 2, axis=1)
        candidates = np.concatenate(
            [
                start + np.argsort(distance[start:end], kind="stable")[:9]
                for start, end in zip([0, *ends[:-1]], ends)
            ]
        )
        pairs = (
            torch.tensor(anchors[candidates]),
            torch.tensor(np.tile(box, (len(candidates), 1))),
        )
        overlaps = iou(*pairs, 1e-6)[0].numpy()
        inside = np.min(
            np.concatenate([points[candidates] - box[:2], box[2:] - points[candidates]], -1), -1
        )
        chosen = (overlaps >= overlaps.mean() + overlaps.std(ddof=1)) & (inside > 0.01)
        for location, overlap in zip(candidates[chosen], overlaps[chosen]):
            if overlap > best[location]:
                best[location], owner[location] = overlap, k
    locations = np.flatnonzero(owner >= 0)
    chosen_points = torch.tensor(points[locations])
    return locations, owner[locations], chosen_points, torch.tensor(strides[locations]).double()
