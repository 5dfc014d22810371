"""The published detectors: one record each."""

import dataclasses
import inspect
import re

import keras

from keras_gflv2.backbones import Res2Net, ResNet
from keras_gflv2.checkpoints import registry
from keras_gflv2.checkpoints.convert import read_deformable_stages
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
OPENMMLAB = "https://download.openmmlab.com/mmdetection/v2.0/"
OPENMMLAB_MIRROR = "https://openmmlab.oss-cn-hangzhou.aliyuncs.com/mmdetection/v2.0/"
FCOS = "fcos_center-normbbox-centeronreg-giou_r50_caffe_fpn_gn-head_1x_coco"
# When a training of mmdetection began, at the end of the name of its file.
DATE = re.compile(r"_\d{8}(_\d{6})?$")
# As in the official trainings: the stem and the first stage do not train.
FROZEN_STAGES = 1
# Networks whose outputs the official code recorded; the others differ in depth or not at all.
RECORDED = ("r50_1x_coco", "r101_dcn_coco", "x101_dcn_coco", "r2_101_dcn_coco")
WHOLE = "scores, logits, detections, a training step"
# The same of mmdetection's, without a training step at full width.
RECORDED_OUTPUTS = {
    "gflv1_r18_ld_coco",
    "atss_r50_1x_coco",
    "fcos_r50_caffe_1x_coco",
    "fovea_r50_1x_coco",
    "retinanet_r50_1x_coco",
}
OUTPUTS = "scores, logits, detections"
# No list of its tensors is at hand, nor of those of its parts.
UNSEEN = {"gflv1_r34_ld_coco"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class DetectorPreset(Preset):
    """Weights of a detector.

    Attributes:
        detector: name of its class, e.g. "GFLV2".
        backbone: class of the backbone.
        backbone_arguments: constructor arguments of the backbone.
        arguments: constructor arguments of the detector, but for the backbone.
    """

    detector: str = "GFLV2"
    backbone: type = ResNet
    backbone_arguments: dict
    arguments: dict

    @property
    def detector_class(self):
        """The class that is registered with Keras under the detector's name."""
        return keras.saving.get_registered_object(f"keras_gflv2>{self.detector}")

    @property
    def sizes(self):
        """{constructor argument: number} of the head, the feature pyramid and the backbone."""
        defaults = inspect.signature(self.detector_class).parameters
        names = ("head_channels", "head_depth", "fpn_channels")
        sizes = {name: self.arguments.get(name, defaults[name].default) for name in names}
        base = inspect.signature(self.backbone).parameters["base_channels"].default
        return {**sizes, "base_channels": self.backbone_arguments.get("base_channels", base)}

    def read_arguments(self, arrays):
        # Names and configurations of the published files disagree on the version; they decide.
        found = read_deformable_stages(arrays)
        found.pop("deformable_stages")
        return {"backbone_arguments": found} if found else {}

    def build(self, backbone_arguments=None, **overrides):
        """The detector without its weights, some constructor arguments replaced."""
        return self.detector_class(**self.constructor_arguments(backbone_arguments, **overrides))

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


def _paddle(name, detector, file, ap_val, compared=DetectorPreset.compared):
    """One that PaddleDetection trained, with its two differences from the official network."""
    return DetectorPreset(
        name=name,
        detector=detector,
        description=f"PaddleDetection {file}",
        url=f"{PADDLE}{file}.pdparams",
        file=f"{file}.pdparams",
        ap_val=ap_val,
        license="Apache-2.0",
        compared=compared,
        backbone_arguments={"depth": 50},
        arguments={"num_classes": len(COCO_CLASSES), "fpn_relu": True, "head_tower_bias": True},
    )


def _openmmlab(
    name, detector, ap_val, path, *, folder=OPENMMLAB, arguments=None, **backbone_arguments
):
    """One of mmdetection's; the name of its file ends with the first digits of the digest."""
    file = path.rsplit("/", 1)[1]
    stem, digest = file.removesuffix(".pth").rsplit("-", 1)
    compared = OUTPUTS if name in RECORDED_OUTPUTS else DetectorPreset.compared
    return DetectorPreset(
        name=name,
        detector=detector,
        description=f"mmdetection {DATE.sub('', stem)}",
        url=folder + path,
        file=file,
        digest=digest,
        ap_val=ap_val,
        license="Apache-2.0",
        compared="-" if name in UNSEEN else compared,
        backbone_arguments=backbone_arguments,
        arguments={"num_classes": len(COCO_CLASSES), **(arguments or {})},
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
        "r50_1x_paddle_coco", "GFLV2", "gflv2_r50_fpn_1x_coco", 41.2, OUTPUTS
    ),
    _paddle("gflv1_r50_1x_paddle_coco", "GFLV1", "gfl_r50_fpn_1x_coco", 41.0),
    # Name, detector, AP on val, file, arguments of the backbone.
    _openmmlab(
        "gflv1_r50_1x_coco", "GFLV1", 40.2,
        "gfl/gfl_r50_fpn_1x_coco/gfl_r50_fpn_1x_coco_20200629_121244-25944287.pth",
        depth=50,
    ),
    _openmmlab(
        "gflv1_r50_coco", "GFLV1", 42.9,
        "gfl/gfl_r50_fpn_mstrain_2x_coco/"
        "gfl_r50_fpn_mstrain_2x_coco_20200629_213802-37bb1edc.pth",
        depth=50,
    ),
    _openmmlab(
        "gflv1_r101_coco", "GFLV1", 44.7,
        "gfl/gfl_r101_fpn_mstrain_2x_coco/"
        "gfl_r101_fpn_mstrain_2x_coco_20200629_200126-dd12f847.pth",
        depth=101,
    ),
    _openmmlab(
        "gflv1_r101_dcn_coco", "GFLV1", 47.1,
        "gfl/gfl_r101_fpn_dconv_c3-c5_mstrain_2x_coco/"
        "gfl_r101_fpn_dconv_c3-c5_mstrain_2x_coco_20200630_102002-134b07df.pth",
        depth=101, deformable_stages=(2, 3, 4), deformable_version=2,
    ),
    _openmmlab(
        "gflv1_x101_coco", "GFLV1", 45.9,
        "gfl/gfl_x101_32x4d_fpn_mstrain_2x_coco/"
        "gfl_x101_32x4d_fpn_mstrain_2x_coco_20200630_102002-50c1ffdb.pth",
        depth=101, groups=32, width_per_group=4,
    ),
    _openmmlab(
        "gflv1_x101_dcn_coco", "GFLV1", 48.1,
        "gfl/gfl_x101_32x4d_fpn_dconv_c4-c5_mstrain_2x_coco/"
        "gfl_x101_32x4d_fpn_dconv_c4-c5_mstrain_2x_coco_20200630_102002-14a2bf25.pth",
        depth=101, groups=32, width_per_group=4, deformable_stages=(3, 4), deformable_version=2,
    ),
    # Students of localization distillation (Zheng et al., 2022).
    _openmmlab(
        "gflv1_r18_ld_coco", "GFLV1", 36.5,
        "ld/ld_r18_gflv1_r101_fpn_coco_1x/"
        "ld_r18_gflv1_r101_fpn_coco_1x_20220702_062206-330e6332.pth",
        depth=18,
    ),
    _openmmlab(
        "gflv1_r34_ld_coco", "GFLV1", 39.9,
        "ld/ld_r34_gflv1_r101_fpn_coco_1x/"
        "ld_r34_gflv1_r101_fpn_coco_1x_20220630_134007-9bc69413.pth",
        depth=34,
    ),
    _openmmlab(
        "gflv1_r50_ld_coco", "GFLV1", 41.0,
        "ld/ld_r50_gflv1_r101_fpn_coco_1x/"
        "ld_r50_gflv1_r101_fpn_coco_1x_20220629_145355-8dc5bad8.pth",
        depth=50,
    ),
    _openmmlab(
        "gflv1_r101_ld_coco", "GFLV1", 45.5,
        "ld/ld_r101_gflv1_r101dcn_fpn_coco_2x/"
        "ld_r101_gflv1_r101dcn_fpn_coco_2x_20220629_185920-9e658426.pth",
        depth=101,
    ),
    _openmmlab(
        "atss_r50_1x_coco", "ATSS", 39.4,
        "atss/atss_r50_fpn_1x_coco/atss_r50_fpn_1x_coco_20200209-985f7bd0.pth",
        depth=50,
    ),
    _openmmlab(
        "atss_r101_1x_coco", "ATSS", 41.5,
        "atss/atss_r101_fpn_1x_coco/atss_r101_fpn_1x_20200825-dfcadd6f.pth",
        depth=101,
    ),
    _openmmlab(
        "fcos_r50_caffe_1x_coco", "FCOS", 38.7,
        f"fcos/{FCOS}/{FCOS}-0a0d75a8.pth",
        folder=OPENMMLAB_MIRROR, arguments={"fpn_relu": True, "head_tower_bias": True},
        depth=50, style="caffe",
    ),
    _openmmlab(
        "fovea_r50_1x_coco", "FoveaBox", 36.5,
        "foveabox/fovea_r50_fpn_4x4_1x_coco/fovea_r50_fpn_4x4_1x_coco_20200219-ee4d5303.pth",
        depth=50,
    ),
    _openmmlab(
        "retinanet_r50_1x_coco", "RetinaNet", 36.5,
        "retinanet/retinanet_r50_fpn_1x_coco/retinanet_r50_fpn_1x_coco_20200130-c2398f9e.pth",
        depth=50,
    ),
    _openmmlab(
        "retinanet_r50_2x_coco", "RetinaNet", 37.4,
        "retinanet/retinanet_r50_fpn_2x_coco/retinanet_r50_fpn_2x_coco_20200131-fdb43119.pth",
        depth=50,
    ),
]  # fmt: skip
registry.register(*_DETECTORS)
DETECTORS = registry.DETECTORS
