"""The calibration of a detector inside of its exported files: written with them, and read back.

In: a file of any format. Out: the configuration of its `SideCalibration`, with which
`intervals.conformal_intervals` makes intervals of the file's boxes and uncertainties.
"""

import json
import zipfile
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from keras_gflv2.annotations import PathLike

NAME = "calibration"
PROPERTY = f"keras_gflv2.{NAME}"  # of ONNX
JSON_FILE = f"{NAME}.json"  # in LiteRT's files


def write_calibration(file, calibration):
    """Adds a calibration to an exported file.

    ONNX has it in its metadata, OpenVINO in the `rt_info` of its .xml, and LiteRT as an associated
    file, which its format has in a ZIP archive behind the model.

    Args:
        file: path of an .onnx, .xml or .tflite.
        calibration: `SideCalibration`.
    """
    content, file = json.dumps(calibration.get_config()), Path(file)
    if file.suffix == ".tflite":
        with zipfile.ZipFile(file, "a") as archive:
            archive.writestr(JSON_FILE, content)
    elif file.suffix == ".xml":
        tree = ElementTree.parse(file)
        information = tree.getroot().find("rt_info")
        if information is None:
            information = ElementTree.SubElement(tree.getroot(), "rt_info")
        ours = ElementTree.SubElement(information, "keras_gflv2")
        ElementTree.SubElement(ours, NAME, value=content)
        tree.write(file, xml_declaration=True)
    else:
        import onnx

        model = onnx.load(file)
        onnx.helper.set_model_props(model, {PROPERTY: content})
        onnx.save(model, file)


def read_calibration(file: PathLike) -> dict[str, Any] | None:
    """The calibration in an export, or None if the detector had none.

    Args:
        file: path of an .onnx, .xml or .tflite, or the folder of a SavedModel.

    Returns:
        Dictionary, the configuration of a `SideCalibration`.

    >>> table = keras_gflv2.serving.read_calibration("cells.onnx")
    >>> keras_gflv2.intervals.conformal_intervals(boxes, uncertainties, 0.9, table)
    """
    file = Path(file)
    if file.is_dir():
        return json.loads((file / "assets" / "detector.json").read_text()).get(NAME)
    if file.suffix == ".tflite":
        if not zipfile.is_zipfile(file):
            return None
        with zipfile.ZipFile(file) as archive:
            return json.loads(archive.read(JSON_FILE))
    if file.suffix == ".xml":
        found = ElementTree.parse(file).getroot().find(f"rt_info/keras_gflv2/{NAME}")
        return None if found is None else json.loads(found.attrib["value"])
    import onnx

    properties = onnx.load(file, load_external_data=False).metadata_props
    return next((json.loads(p.value) for p in properties if p.key == PROPERTY), None)
