"""Candidates to detections by ONNX's own operators.

ONNX's NonMaxSuppression takes batches and classes, a greater overlap suppresses, and of equal
scores the first location is the better one, as in `postprocessing.non_max_suppression`.
"""

import math

import onnx

# The scores of what remains are scattered into an array of all pairs of location and class, of
# which the best are the detections. Rows are added to it, so that it has D pairs in any case.
NMS = """
<ir_version: {ir_version}, opset_import: ["": {opset}]>
nms (float[B, M, C] scores, float[B, M, 4] corners)
    => (int32[B, {length}] locations, int32[B, {length}] classes,
        float[B, {length}] confidence, int32[B] num_detections)
{{
    length = Constant<value_ints = [{length}]>()
    iou_threshold = Constant<value = float[1] {{{iou_threshold!r}}}>()
    zero = Constant<value = float {{0.0}}>()
    none = Constant<value = float {{-1.0}}>()
    nowhere = Constant<value = int32 {{-1}}>()
    num_classes = Constant<value = int64 {{{num_classes}}}>()
    more_rows = Constant<value_ints = [0, {more_rows}, 0]>()
    flat = Constant<value_ints = [0, -1]>()
    location_before_class = Constant<value_ints = [0, 2, 1]>()
    of_image = Constant<value_ints = [1]>()

    by_class = Transpose<perm = [0, 2, 1]>(scores)
    remaining = NonMaxSuppression(corners, by_class, length, iou_threshold, zero)
    pairs = Gather<axis = 1>(remaining, location_before_class)
    remaining_scores = GatherND(scores, pairs)
    shape = Shape(scores)
    larger_shape = Add(shape, more_rows)
    nothing = Expand(none, larger_shape)
    scattered = ScatterND(nothing, pairs, remaining_scores)
    all_pairs = Reshape(scattered, flat)
    confidence, pair = TopK(all_pairs, length)

    found = Greater(confidence, zero)
    class = Mod(pair, num_classes)
    small_class = Cast<to = 6>(class)
    classes = Where(found, small_class, nowhere)
    location = Div(pair, num_classes)
    small_location = Cast<to = 6>(location)
    locations = Where(found, small_location, nowhere)
    counted = Cast<to = 6>(found)
    num_detections = ReduceSum<keepdims = 0>(counted, of_image)
}}
"""


def append_nms(model, num_classes, iou_threshold, max_detections):
    """A model that ends with what NMS keeps, of one that ends with candidates.

    Args:
        model: `onnx.ModelProto` with the float32 outputs of `candidates`: "scores" (B, M, C) and
            "corners" (B, M, 4), and others, which stay.
        num_classes: C.
        iou_threshold: greater overlaps suppress.
        max_detections: D.

    Returns:
        `onnx.ModelProto` with the outputs "locations" (B, D), "classes" (B, D), "confidence" (B, D)
        and "num_detections" (B,).
    """
    text = NMS.format(
        ir_version=model.ir_version,
        opset=next(used.version for used in model.opset_import if not used.domain),
        length=max_detections,
        iou_threshold=float(iou_threshold),
        num_classes=num_classes,
        more_rows=math.ceil(max_detections / num_classes),
    )
    return _joined(model, onnx.parser.parse_model(text))


def append_rest(model, rest, outputs):
    """A model that goes on with another, whose inputs are outputs of it.

    Args:
        model, rest: `onnx.ModelProto`.
        outputs: names of its outputs, of either, in order.
    """
    # Nodes have the same names in both, as TensorFlow gives them.
    rest = onnx.compose.add_prefix(rest, "rest/", rename_inputs=False, rename_outputs=False)
    merged = _joined(model, rest, outputs=outputs)
    in_order = sorted(merged.graph.output, key=lambda output: outputs.index(output.name))
    del merged.graph.output[:]
    merged.graph.output.extend(in_order)
    return merged


def _joined(model, rest, **options):
    there = {output.name for output in model.graph.output}
    names = [(i.name, i.name) for i in rest.graph.input if i.name in there]
    merged = onnx.compose.merge_models(model, rest, io_map=names, **options)
    # It lists the operators of both, and onnxruntime quantizes no model that has them twice.
    del merged.opset_import[:]
    merged.opset_import.extend(model.opset_import)
    return merged
