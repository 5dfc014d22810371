"""Candidates to detections by OpenVINO's own operators.

As `onnx_nms`, with two differences of OpenVINO (2026.4). Its NonMaxSuppression lets an overlap
suppress that equals the threshold. And its TopK takes 100 times as long where it has to keep equal
values in order.
"""

import numpy as np
import openvino
from openvino import opset15 as ops


def append_nms(model, num_classes, iou_threshold, max_detections):
    """A model that ends with what NMS keeps, of one that ends with candidates.

    Args:
        model: `openvino.Model` with the float32 outputs "scores" (B, M, C) and "corners" (B, M, 4),
            see `Candidates`, and others, which stay.
        num_classes: C.
        iou_threshold: greater overlaps suppress.
        max_detections: D.

    Returns:
        `openvino.Model` with the outputs "locations" (B, D), "classes" (B, D), "confidence" (B, D)
        and "num_detections" (B,).
    """
    outputs = _outputs(model)
    scores, corners = outputs.pop("scores"), outputs.pop("corners")
    all_pairs = _remaining(scores, corners, iou_threshold, max_detections)
    confidence, pair = _first_largest(all_pairs, max_detections)
    found = ops.greater(confidence, np.float32(0))
    classes = ops.convert(ops.floor_mod(pair, _integers(num_classes)), "i32")
    locations = ops.convert(ops.divide(pair, _integers(num_classes)), "i32")
    kept = {
        "locations": ops.select(found, locations, np.int32(-1)),
        "classes": ops.select(found, classes, np.int32(-1)),
        "confidence": confidence,
        "num_detections": ops.reduce_sum(ops.convert(found, "i32"), _integers(1)),
    }
    outputs.update({name: node.output(0) for name, node in kept.items()})
    return _with_outputs(model, outputs)


def append_rest(model, rest, outputs):
    """A model that goes on with another, whose inputs are outputs of it.

    Args:
        model, rest: `openvino.Model`.
        outputs: names of the outputs, of either.
    """
    found = _outputs(model)
    for parameter in rest.get_parameters():
        parameter.output(0).replace(found[parameter.output(0).get_any_name()])
    found.update(_outputs(rest))
    return _with_outputs(model, {name: found[name] for name in outputs})


def _outputs(model):
    """What the outputs of a model are computed as, by name."""
    return {output.get_any_name(): output.get_node().input_value(0) for output in model.outputs}


def _with_outputs(model, outputs):
    """The model with these outputs, {name: of a node}, instead of its own."""
    for name, output in outputs.items():
        output.get_tensor().set_names({name})
    results = [ops.result(output) for output in outputs.values()]
    return openvino.Model(results, model.get_parameters(), model.get_name())


def _remaining(scores, corners, iou_threshold, max_detections):
    """Scores (B, M * C + D) of what NMS leaves, -1 elsewhere; D more, so that there are D."""
    larger_threshold = np.nextafter(np.float32(iou_threshold), np.float32(1))
    remaining = ops.non_max_suppression(
        corners,
        ops.transpose(scores, _integers([0, 2, 1])),
        max_output_boxes_per_class=_integers(max_detections),
        iou_threshold=ops.constant(larger_threshold),
        score_threshold=ops.constant(np.float32(0)),
        sort_result_descending=False,
        output_type="i64",
    ).output(0)
    pairs = ops.gather(remaining, _integers([0, 2, 1]), _integers(1))  # image, location, class
    nothing = ops.broadcast(np.float32(-1), ops.shape_of(scores, "i64"))
    scattered = ops.scatter_nd_update(nothing, pairs, ops.gather_nd(scores, pairs))
    flat = ops.reshape(scattered, _integers([0, -1]), special_zero=True)
    return ops.pad(
        flat, _integers([0, 0]), _integers([0, max_detections]), "constant", np.float32(-1)
    )


def _first_largest(values, count):
    """The largest of values (B, K), of equal ones the first: (B, count), and their indices.

    Three quick TopK that do not look at the order of equal values, or at few.
    """
    amount = _integers(count)
    largest = ops.topk(values, amount, 1, "max", "value")
    last = ops.reduce_min(largest.output(0), _integers(1), keep_dims=True)
    above, equal = ops.greater(values, last), ops.equal(values, last)
    room = ops.subtract(
        amount, ops.reduce_sum(ops.convert(above, "i64"), _integers(1), keep_dims=True)
    )
    place = ops.cumsum(ops.convert(equal, "i64"), _integers(1))
    chosen = ops.logical_or(above, ops.logical_and(equal, ops.less_equal(place, room)))

    length = ops.gather(ops.shape_of(values, "i32"), np.int32(1), np.int32(0))
    index = ops.range(np.int32(0), length, np.int32(1), output_type="i32")
    rising = ops.topk(ops.select(chosen, index, length), amount, 1, "min", "value")
    rising = ops.convert(rising.output(0), "i64")
    few = ops.gather(values, rising, _integers(1), batch_dims=1)
    best = ops.topk(few, amount, 1, "max", "value", index_element_type="i64", stable=True)
    index = ops.gather(rising, best.output(1), _integers(1), batch_dims=1)
    return ops.convert(best.output(0), "f32"), index


def ignore_order_of_equals(model):
    """Changes each TopK of a model of which only the values are read: equal ones have no order."""
    for node in model.get_ops():
        if node.get_type_name() == "TopK" and not node.output(1).get_target_inputs():
            attributes = node.get_attributes()
            quick = ops.topk(
                node.input_value(0),
                node.input_value(1),
                int(attributes["axis"]),
                attributes["mode"],
                attributes["sort"],
                index_element_type=attributes["index_element_type"],
            )
            for reader in node.output(0).get_target_inputs():
                reader.replace_source_output(quick.output(0))


def _integers(values):
    return ops.constant(np.array(values, "int64"))
