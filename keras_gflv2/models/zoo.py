"""The published detectors: one record each."""

import dataclasses

from keras_gflv2.backbones import Res2Net, ResNet
from keras_gflv2.checkpoints.presets import Preset

_COCO_NAMES = """person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light,
fire hydrant, stop sign, parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear,
zebra, giraffe, backpack, umbrella, handbag, tie, suitcase, frisbee, skis, snowboard, sports ball,
kite, baseball bat, baseball glove, skateboard, surfboard, tennis racket, bottle, wine glass, cup,
fork, knife, spoon, bowl, banana, apple, sandwich, orange, broccoli, carrot, hot dog, pizza, donut,
cake, chair, couch, potted plant, bed, dining table, toilet, tv, laptop, mouse, remote, keyboard,
cell phone, microwave, oven, toaster, sink, refrigerator, book, clock, vase, scissors, teddy bear,
hair drier, toothbrush"""
COCO_CLASSES = tuple(name.strip() for name in _COCO_NAMES.split(","))

DRIVE = "https://drive.usercontent.google.com/download?id={}&export=download&confirm=t"
PADDLE = "https://paddledet.bj.bcebos.com/models/"
# As in the official trainings: the stem and the first stage do not train.
FROZEN_STAGES = 1
# Networks whose outputs the official code recorded; the others differ in depth or not at all.
RECORDED = ("r50_1x_coco", "r101_dcn_coco", "x101_dcn_coco", "r2_101_dcn_coco")
WHOLE = "scores, logits, detections, a training step"


@dataclasses.dataclass(frozen=True, kw_only=True)
class DetectorPreset(Preset):
    """Weights of a detector.

    Attributes:
        backbone: its class.
        backbone_arguments: constructor arguments of the backbone.
        arguments: constructor arguments of the detector, but for the backbone.
    """

    backbone: type
    backbone_arguments: dict
    arguments: dict

    def constructor_arguments(self, backbone_arguments=None, **overrides):
        """Arguments that make the detector, some replaced; class names are left out if they do
        not fit."""
        arguments = {"class_names": COCO_CLASSES, **self.arguments, **overrides}
        if arguments["num_classes"] != len(arguments["class_names"] or ()):
            arguments["class_names"] = overrides.get("class_names")
        if "backbone" not in arguments:
            arguments["backbone"] = self.backbone(
                **{
                    "frozen_stages": FROZEN_STAGES,
                    "dtype": arguments.get("dtype"),
                    **self.backbone_arguments,
                    **(backbone_arguments or {}),
                }
            )
        return arguments


def _official(name, network, schedule, ap_val, ap_test_dev, drive_id, backbone, **arguments):
    """One of the authors' six, on Google Drive; digests are not published."""
    return DetectorPreset(
        name=name,
        description=f"official GFLV2 {network}, {schedule}",
        url=DRIVE.format(drive_id),
        file=f"GFocal_{network}_FPN_{schedule}.pth",
        ap_val=ap_val,
        ap_test_dev=ap_test_dev,
        license="Apache-2.0",
        compared=WHOLE if name in RECORDED else DetectorPreset.compared,
        backbone=backbone,
        backbone_arguments=arguments,
        arguments={"num_classes": len(COCO_CLASSES)},
    )


def _paddle(name, file, ap_val, compared=DetectorPreset.compared, **arguments):
    """One that PaddleDetection trained, with its two differences from the official network."""
    return DetectorPreset(
        name=name,
        description=f"PaddleDetection {file}",
        url=f"{PADDLE}{file}.pdparams",
        file=f"{file}.pdparams",
        ap_val=ap_val,
        license="Apache-2.0",
        compared=compared,
        backbone=ResNet,
        backbone_arguments={"depth": 50},
        arguments={
            "num_classes": len(COCO_CLASSES),
            "fpn_relu": True,
            "head_tower_bias": True,
            **arguments,
        },
    )


# Name, network, schedule, AP on val and test-dev, id on Google Drive, backbone and its arguments.
_DETECTORS = [
    _official(
        "r50_coco", "R_50", "2x", 43.9, 44.4, "17-1cKRdR5J3SfZ9NBCwe6QE554uTS30F",
        ResNet, depth=50,
    ),
    _official(
        "r50_1x_coco", "R_50", "1x", 41.0, 41.1, "1wSE9-c7tcQwIDPC6Vm_yfOokdPfmYmy7",
        ResNet, depth=50,
    ),
    _official(
        "r101_coco", "R_101", "2x", 45.8, 46.0, "1qomgA7mzKW0bwybtG4Avqahv67FUxmNx",
        ResNet, depth=101,
    ),
    _official(
        "r101_dcn_coco", "R_101_dcnv2", "2x", 48.0, 48.2, "1xsBjxmqsJoYZYPMr0k06X5K9nnPrexcx",
        ResNet, depth=101, deformable_stages=(2, 3, 4),
    ),
    _official(
        "x101_dcn_coco", "X_101_dcnv2", "2x", 48.8, 49.0, "1AHDVQoclYPSP0Ync2a5FCsr_rhq2QdMH",
        ResNet, depth=101, groups=32, width_per_group=4, deformable_stages=(3, 4),
    ),
    _official(
        "r2_101_dcn_coco", "R2_101_dcnv2", "2x", 49.9, 50.5, "1sAXfYLXIxZgMrC44LBqDgfYImThZ_kud",
        Res2Net, depth=101, scales=4, base_width=26, deformable_stages=(3, 4),
    ),
    _paddle(
        "r50_1x_paddle_coco", "gflv2_r50_fpn_1x_coco", 41.2, "scores, logits, detections"
    ),
    _paddle("gflv1_r50_1x_paddle_coco", "gfl_r50_fpn_1x_coco", 41.0, quality_statistics=()),
]  # fmt: skip
DETECTORS = {preset.name: preset for preset in _DETECTORS}
