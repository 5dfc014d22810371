"""The network of `plain_pytorch`: ResNet, FPN and the head of GFLV2, with mmdetection's names."""

import torch
import torch.nn.functional as F
from torch import nn

BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
STRIDES = (8, 16, 32, 64, 128)
REG_MAX = 16
TOP_K = 4  # probabilities of a side that the quality predictor reads
PIXEL_MEAN = (123.675, 116.28, 103.53)
PIXEL_STD = (58.395, 57.12, 57.375)


class Bottleneck(nn.Module):
    def __init__(self, channels_in, width, stride):
        super().__init__()
        channels = 4 * width
        self.conv1 = nn.Conv2d(channels_in, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if stride > 1 or channels_in != channels:
            projection = nn.Conv2d(channels_in, channels, 1, stride, bias=False)
            self.downsample = nn.Sequential(projection, nn.BatchNorm2d(channels))

    def forward(self, x):
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        return self.relu(self.bn3(self.conv3(x)).add_(shortcut))


class ResNet(nn.Module):
    """(B, 3, H, W) -> maps of strides 8, 16 and 32. The stem and the first stage are frozen."""

    def __init__(self, depth):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        channels = 64
        for stage, count in enumerate(BLOCKS[depth]):
            width = 64 * 2**stage
            blocks = []
            for index in range(count):
                stride = 2 if stage > 0 and index == 0 else 1
                blocks.append(Bottleneck(channels, width, stride))
                channels = 4 * width
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
        for frozen in (self.conv1, self.bn1, self.layer1):
            frozen.requires_grad_(False)

    def forward(self, x):
        x = self.layer1(self.maxpool(self.relu(self.bn1(self.conv1(x)))))
        c3 = self.layer2(x)
        c4 = self.layer3(c3)
        return c3, c4, self.layer4(c4)


class ConvModule(nn.Module):
    """A convolution, with group normalization and ReLU after it if `groups` is given."""

    def __init__(self, channels_in, channels, kernel_size, stride=1, groups=None):
        super().__init__()
        padding = kernel_size // 2
        bias = groups is None
        self.conv = nn.Conv2d(channels_in, channels, kernel_size, stride, padding, bias=bias)
        if groups is not None:
            self.gn = nn.GroupNorm(groups, channels)
            self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        x = self.conv(x)
        return self.relu(self.gn(x)) if hasattr(self, "gn") else x


class FPN(nn.Module):
    """Three maps -> five of 256 channels."""

    def __init__(self, channels_in, channels=256):
        super().__init__()
        self.lateral_convs = nn.ModuleList(ConvModule(c, channels, 1) for c in channels_in)
        strides = (1, 1, 1, 2, 2)
        self.fpn_convs = nn.ModuleList(ConvModule(channels, channels, 3, s) for s in strides)

    def forward(self, features):
        maps = [conv(x) for conv, x in zip(self.lateral_convs, features)]
        for i in (1, 0):
            maps[i] = maps[i] + F.interpolate(maps[i + 1], size=maps[i].shape[-2:], mode="nearest")
        maps = [conv(x) for conv, x in zip(self.fpn_convs, maps)]
        for conv in self.fpn_convs[3:]:
            maps.append(conv(maps[-1]))
        return maps


class Scale(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.0))

    def forward(self, x):
        return x * self.scale


class GFocalHead(nn.Module):
    """Five maps -> of each level, scores (B, C, H, W) and logits of the sides (B, 68, H, W)."""

    def __init__(self, num_classes, channels=256, depth=4, groups=32):
        super().__init__()
        towers = [
            nn.ModuleList(ConvModule(channels, channels, 3, groups=groups) for _ in range(depth))
            for _ in range(2)
        ]
        self.cls_convs, self.reg_convs = towers
        self.gfl_cls = nn.Conv2d(channels, num_classes, 3, padding=1)
        self.gfl_reg = nn.Conv2d(channels, 4 * (REG_MAX + 1), 3, padding=1)
        self.scales = nn.ModuleList(Scale() for _ in STRIDES)
        self.reg_conf = nn.Sequential(
            nn.Conv2d(4 * (TOP_K + 1), 64, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(64, 1, 1),
            nn.Sigmoid(),
        )
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.normal_(layer.weight, std=0.01)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
        nn.init.constant_(self.gfl_cls.bias, -4.595)  # a probability of 0.01

    def forward(self, maps):
        return [self.level(x, scale) for x, scale in zip(maps, self.scales)]

    def level(self, x, scale):
        classes = sides = x
        for conv in self.cls_convs:
            classes = conv(classes)
        for conv in self.reg_convs:
            sides = conv(sides)
        logits = scale(self.gfl_reg(sides))
        batch, _, height, width = logits.shape
        probabilities = logits.reshape(batch, 4, REG_MAX + 1, height, width).softmax(2)
        top = probabilities.topk(TOP_K, dim=2).values
        statistics = torch.cat([top, top.mean(2, keepdim=True)], 2).flatten(1, 2)
        return self.gfl_cls(classes).sigmoid() * self.reg_conf(statistics), logits


class GFLV2(nn.Module):
    def __init__(self, num_classes, depth=50):
        super().__init__()
        self.backbone = ResNet(depth)
        self.neck = FPN((512, 1024, 2048))
        self.bbox_head = GFocalHead(num_classes)
        self.register_buffer("mean", torch.tensor(PIXEL_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(PIXEL_STD).view(3, 1, 1), persistent=False)

    def forward(self, images):
        """(B, 3, H, W) -> scores (B, A, C) and logits of the sides (B, A, 68), by level."""
        x = (images - self.mean) / self.std
        outputs = self.bbox_head(self.neck(self.backbone(x)))
        # In channels-last memory both are views.
        scores, logits = (
            [x.permute(0, 2, 3, 1).flatten(1, 2) for x in part] for part in zip(*outputs)
        )
        return scores, logits

    def train(self, mode=True):
        """Batch normalization always uses its running statistics, so nothing changes."""
        del mode
        return super().train(False)
