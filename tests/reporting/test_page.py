"""The report as a file, and in a real browser: what it shows and what clicks and keys do.

The page is the same on every backend.
"""

import copy
import re

import keras
import pytest
from browsing import choose, contrast, errors_of, find, luminance, open_page, value, wait

from keras_gflv2.reporting import read_report, write_report
from keras_gflv2.reporting.charts import charts_of

vl_convert = pytest.importorskip("vl_convert", reason='the extra "report" is not installed')
if keras.backend.backend() != "tensorflow":
    pytest.skip("the page is the same on every backend", allow_module_level=True)

GRAPHICS = ".chart [role='graphics-document']"
EVIL = "</script><script>document.title = 'evil'</script>"


def renamed(run, name, **changes):
    return {**copy.deepcopy(run), "name": name, **changes}


@pytest.fixture(scope="module")
def page(run, tmp_path_factory):
    """A report of one run."""
    return write_report(tmp_path_factory.mktemp("report") / "new" / "one.html", [run], "shapes:val")


def test_the_file_needs_no_network(page):
    text = page.read_text()
    # A policy that the browser enforces: nothing is fetched, from anywhere.
    assert "default-src 'none'" in text
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", text)
    assert "{{" not in re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)


def test_a_report_can_be_read_again(page, run):
    assert read_report(page) == [run]


def test_another_file_is_no_report(tmp_path):
    (tmp_path / "other.html").write_text("<html></html>")
    with pytest.raises(ValueError, match="no report"):
        read_report(tmp_path / "other.html")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"class_names": ["x", "y", "z"]}, "cannot be compared"),
        ({"num_images": 3}, "same images"),
        ({"num_objects": 9}, "same images"),
    ],
)
def test_runs_of_other_data_are_not_compared(run, change, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        write_report(tmp_path / "two.html", [run, renamed(run, "other", **change)])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("count", [1, 2])
def test_vega_lite_understands_every_chart(run, count):
    for spec in charts_of([renamed(run, str(i)) for i in range(count)]).values():
        assert vl_convert.vegalite_to_vega(spec)["marks"]


# === In a browser ===


def show(browser, path, width=1200, theme="light"):
    """Opens a file in a window of some pixels, and waits until its charts are there."""
    open_page(browser, path.as_uri(), width, theme)
    wait(lambda: value(browser, "document.documentElement.dataset.drawn") == theme)
    assert not errors_of(browser)


def test_numbers_and_charts_are_there(browser, page, run):
    show(browser, page)
    cells = [cell.text for cell in find(browser, "#table-metrics td")]
    assert cells[0] == f"{run['metrics']['AP']:.3f}"
    charts = find(browser, ".chart svg.marks")
    assert len(charts) == 8
    labels = [element.get_attribute("aria-label") for element in find(browser, GRAPHICS)]
    assert len(labels) == 8 and all(labels)
    best = run["f1"]["best"][-1]["threshold"]
    assert f"threshold of {best:.2f}" in browser.find_element("id", "best").text


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1200])
def test_it_fits_a_phone_and_can_be_read_in_light_and_dark(browser, page, width, theme):
    show(browser, page, width, theme)
    assert value(browser, "document.documentElement.scrollWidth") <= width
    body, label = "getComputedStyle(document.body)", "document.querySelector('.chart svg text')"
    page = f"{body}.backgroundColor"
    for color in (f"{body}.color", f"getComputedStyle({label}).fill"):
        assert contrast(browser, page, color) > 4.5  # WCAG 2.2, level AA
    assert (luminance(browser, page) > 0.5) == (theme == "light")


def test_filters_leave_what_they_name(browser, page, run):
    show(browser, page)
    items = run["gallery"]["items"]
    assert len(find(browser, "#gallery figure")) == len(items)
    choose(browser, "pictures-kind", "missed")
    missed = [item for item in items if item["kind"] == "missed"]
    shown = find(browser, "#gallery figure")
    assert [figure.get_attribute("data-kind") for figure in shown] == ["missed"] * len(missed)
    label = run["gallery"]["images"][missed[0]["image"]]["objects"][missed[0]["object"]]["class"]
    other = next(i for i in range(3) if i != label)
    choose(browser, "pictures-class", run["class_names"][other])
    assert len(find(browser, "#gallery figure")) < len(missed)
    assert f"of {len(items)} pictures" in browser.find_element("id", "pictures-count").text


def test_a_box_opens_by_click_and_by_key(browser, page, run):
    show(browser, page)
    item = run["gallery"]["items"][0]
    choose(browser, "pictures-kind", item["kind"])
    told = run["gallery"]["images"][item["image"]]["detections"][item["detection"]]
    dialog = browser.find_element("id", "detail")
    (box,) = find(browser, "#gallery figure:first-child rect.error")
    browser.execute_script("arguments[0].dispatchEvent(new MouseEvent('click'))", box)
    assert dialog.is_displayed()
    cells = [cell.text for cell in find(browser, "#detail-table td")]
    numbers = [f"{told[key]:.3f}" for key in ("score", "class_score", "quality")]
    assert cells[1:4] == numbers
    wait(lambda: len(find(browser, "#detail-sides svg.marks")) == 4)
    # Escape closes it, and gives the focus back to the box, which Enter opens again.
    browser.switch_to.active_element.send_keys("\ue00c")
    assert not dialog.is_displayed()
    box.send_keys("\ue007")
    assert dialog.is_displayed()
    # All boxes of the picture can be reached by Tab.
    count = len(run["gallery"]["images"][item["image"]]["detections"])
    assert len(find(browser, "#detail-picture rect[tabindex='0']")) == count


def test_the_slider_moves_the_threshold_of_the_confusion_matrix(browser, page, run):
    show(browser, page)
    slider = browser.find_element("id", "confusion-threshold")
    slider.send_keys("\ue011")  # Home: the least threshold
    assert browser.find_element("id", "confusion-value").text.startswith("0.05")
    expected = [[0] * 4 for _ in range(4)]
    for at, truth, predicted, count in run["confusion"]["cells"]:
        if at == 0:
            expected[truth][predicted] = count
    # In a closed element of details: not text that is seen.
    cells = "[...document.querySelectorAll('#table-confusion td')].map(c => Number(c.textContent))"
    assert value(browser, cells) == [count for row in expected for count in row]
    filled = sum(count > 0 for row in expected for count in row)
    wait(lambda: len(find(browser, "#chart-confusion .mark-text.role-mark text")) == filled)


def test_runs_are_side_by_side_and_names_are_only_text(browser, run, tmp_path):
    runs = [renamed(run, EVIL), renamed(run, "b"), renamed(run, "b")]
    for other in runs:
        other["class_names"] = [EVIL, "b", "c"]
    show(browser, write_report(tmp_path / "three.html", runs))
    names = [cell.text for cell in find(browser, "#table-metrics tbody th")]
    assert names == [EVIL, "b", "b (2)"]
    assert "evil" not in value(browser, "document.title").replace(EVIL, "")
    choose(browser, "pictures-run", "b (2)")
    assert len(find(browser, "#gallery figure")) == len(run["gallery"]["items"])
