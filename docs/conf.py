"""The documentation site, of pages that need no network: `sphinx-build -W docs .ci/docs`."""

import inspect
import re
import sys
from pathlib import Path

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.util.inspect import stringify_signature

DOCS = Path(__file__).parent
sys.path[:0] = [str(DOCS), str(DOCS.parent)]

import keras_gflv2  # noqa: E402

project = "keras_gflv2"
copyright = "the keras_gflv2 developers, Apache License 2.0"
version = release = keras_gflv2.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "source_pages",
]
templates_path = ["_templates"]
html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_title = f"keras_gflv2 {version}"
html_math_renderer = "mathml"

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # notebooks are shown as they were run, docs/notebooks links to them
exclude_patterns = ["notebooks/runs", "notebooks/.ipynb_checkpoints"]

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the signature has them; a second time would be noise
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_custom_sections = [("Call arguments", "params_style")]
default_role = "code"

# Names of arguments that share a description, over two lines.
SHARED_NAMES = re.compile(r"(?m)^( *[\w, ]+,)\n +([\w, ]+:)")
# `code`, or a character that Markdown and reStructuredText read differently within a formula.
MARKUP = re.compile(r"(`[^`]*`)|(?<=[\w\]) ])([*|])(?=[ \w])|(?<= )([*|])(?=[ \w])")


def markdown_docstring(app, what, name, obj, options, lines):
    """Docstrings are written as those of Keras, in Markdown; Sphinx reads reStructuredText."""
    text = SHARED_NAMES.sub(r"\1 \2", "\n".join(lines))
    kept, indent = [], None
    for line in text.split("\n"):
        if line.strip() == "```python":
            indent = "    "
            kept += [line.replace("```python", ".. code-block:: python"), ""]
        elif line.strip() == "```":
            indent = None
            kept.append("")
        elif indent:
            kept.append(indent + line if line.strip() else line)
        elif re.match(r" *(>>>|\*|[\w, ]+, \*\*)", line):
            kept.append(line)
        else:
            if re.match(r" *- ", line):
                kept.append("")
            kept.append(MARKUP.sub(lambda m: m[1] or "\\" + (m[2] or m[3]), line))
    lines[:] = kept


def constructor_signature(app, what, name, obj, options, signature, returned):
    """That of `__init__`: Keras's classes have a `__new__` that takes anything."""
    if what != "class" or type(obj.__init__).__name__ != "function":
        return None
    whole = inspect.signature(obj.__init__)
    return stringify_signature(whole.replace(parameters=[*whole.parameters.values()][1:])), None


def _math(is_block):
    def visit(translator, node):
        translator.body.append(tex2mathml(node.astext(), as_block=is_block))
        raise nodes.SkipNode

    return visit, None


def setup(app):
    app.connect("autodoc-process-docstring", markdown_docstring, priority=400)  # before napoleon
    app.connect("autodoc-process-signature", constructor_signature)
    # docutils writes MathML, which browsers show without a script from elsewhere.
    app.add_html_math_renderer("mathml", _math(False), _math(True))
