"""Links of the pages to files of the repository, on the site.

In: `[text](../keras_gflv2/grid.py)`, as it works where the repository is browsed. Out: a link to a
page of the site that shows the file; of a folder, its `__init__.py`. Sphinx would offer files as
downloads, and knows no folders.
"""

from pathlib import Path

from docutils import nodes
from sphinx import addnodes
from sphinx.highlighting import PygmentsBridge
from sphinx.util.osutil import relative_uri

DOCS = Path(__file__).parent
REPOSITORY = DOCS.parent
FOLDER = "files"
LANGUAGES = {".py": "python", ".sh": "bash", ".md": "markdown", ".toml": "toml", ".json": "json"}


def file_of(target):
    """What a link means: a path in the repository, or None if it is no file outside of docs/.

    A page that includes one of the main folder has the links of that one, too.
    """
    for base in (DOCS, REPOSITORY):
        path = (base / target.partition("#")[0]).resolve()
        if not path.exists():  # MyST takes off the ending of a page
            pages = [path.with_name(path.name + ending) for ending in (".md", ".ipynb")]
            path = next((page for page in pages if page.exists()), path)
        if path.is_dir() and (path / "__init__.py").is_file():
            path = path / "__init__.py"
        if path.is_file() and path.is_relative_to(REPOSITORY):
            return path.relative_to(REPOSITORY)
    return None


def page_of(file):
    """The page of the site that a notebook or a Markdown file is, or the one that shows a file."""
    page = {"README": "index"}.get(file.stem, file.stem.lower())
    if file.suffix == ".ipynb":  # docs/notebooks is a link to its folder
        return f"notebooks/{file.stem}"
    if file.suffix == ".md" and (DOCS / f"{page}.md").is_file():
        return page
    return f"{FOLDER}/{file.as_posix()}"


def point_to_pages(app, doctree):
    page = app.env.docname
    if not hasattr(app.env, "shown_files"):
        app.env.shown_files = {}
    shown = app.env.shown_files[page] = set()
    for kind in (addnodes.download_reference, addnodes.pending_xref):
        for node in list(doctree.findall(kind)):
            file = file_of(node["reftarget"]) if node.get("reftype") == "myst" else None
            if file is None:
                continue
            target = page_of(file)
            if target.startswith(FOLDER):
                shown.add(file.as_posix())
            uri = relative_uri(app.builder.get_target_uri(page), app.builder.get_target_uri(target))
            node.replace_self(nodes.reference("", "", *node.children, refuri=uri, internal=True))


def source_pages(app):
    highlighter = PygmentsBridge("html", app.builder.config.pygments_style or "default")
    for name in sorted(set().union(*getattr(app.env, "shown_files", {}).values())):
        text = (REPOSITORY / name).read_text(encoding="utf-8")
        language = LANGUAGES.get(Path(name).suffix, "text")
        body = f"<h1>{name}</h1>" + highlighter.highlight_block(text, language)
        yield f"{FOLDER}/{name}", {"title": name, "body": body}, "page.html"


def setup(app):
    # Before Sphinx collects the files to download.
    app.connect("doctree-read", point_to_pages, priority=100)
    app.connect("html-collect-pages", source_pages)
    return {"parallel_read_safe": False}
