"""The files of the page: they are in memory, and the browser fetches nothing from elsewhere."""

import html

import keras_gflv2
from keras_gflv2 import images
from keras_gflv2.reporting.charts import side_chart
from keras_gflv2.reporting.web import asset, charting_library, filled, json_in_html

HERE = "keras_gflv2.app"


def files_of_page(detector, name, score_threshold, examples, max_bytes):
    """{path: (text, media type)} of the page.

    Args:
        detector, name, score_threshold, examples, max_bytes: as of `Server`.
    """
    settings = {
        "name": name,
        "version": keras_gflv2.__version__,
        "class_names": detector.class_names,
        "score_threshold": max(score_threshold, detector.least_score),
        "least_score": detector.least_score,
        "nms_threshold": detector.nms_iou_threshold,
        "max_detections": getattr(detector.model.prediction_decoder, "max_detections", None),
        "has_distributions": detector.has_distributions,
        "is_calibrated": detector.model.calibration is not None,
        "coverage": detector.coverage,
        "has_examples": examples is not None,
        "max_bytes": max_bytes,
        "max_megapixels": images.MAX_PIXELS / 1e6,
        "side_chart": side_chart(),
    }
    parts = {"title": html.escape(f"Try {name}"), "settings": json_in_html(settings)}
    return {
        "": (filled(asset("app.html", HERE), parts), "text/html"),
        "app.css": (asset("viewer.css") + asset("app.css", HERE), "text/css"),
        "app.js": (asset("viewer.js") + asset("app.js", HERE), "text/javascript"),
        "vega.js": (charting_library(), "text/javascript"),
    }
