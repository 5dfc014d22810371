"""Parts of pages that browsers show without a network: assets, data, the charting library."""

import functools
import json
import math
import re
from importlib import resources

import numpy as np

DECIMALS = 4
NOTICE = """/* Vega, Vega-Lite and Vega-Embed. Copyright (c) 2015-2025 University of Washington
Interactive Data Lab and contributors. BSD 3-Clause License, see
https://github.com/vega/vega/blob/main/LICENSE */
"""


def asset(name, package="keras_gflv2.reporting"):
    """The text of a file in the folder `assets` of a package."""
    return resources.files(package).joinpath("assets", name).read_text("utf-8")


def filled(template, parts):
    """A template with the texts of a dictionary in the place of {{their names}}."""
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], template)


def plain(value):
    """Arrays as lists, floats rounded, NaN as None: what JSON has."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return round(value, DECIMALS) if math.isfinite(value) else None
    return value


def json_in_html(content):
    """JSON that no browser takes for the end of its element."""
    return json.dumps(content, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


@functools.cache
def charting_library():
    """The scripts of Vega, Vega-Lite and Vega-Embed, as vl-convert has them; no network."""
    import vl_convert

    bundle = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    return NOTICE + bundle.replace("</script", "<\\/script")
