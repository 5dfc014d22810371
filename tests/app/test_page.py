"""The app's page in a real browser: what clicks, keys and files do, and what is seen then.

The page is the same on every backend.
"""

import base64
import json

import keras
import numpy as np
import pytest
from browsing import contrast, errors_of, find, luminance, open_page, value, wait
from common import small_detector

from keras_gflv2 import cli
from keras_gflv2.postprocessing import PredictionDecoder

ActionChains = pytest.importorskip("selenium.webdriver").ActionChains
if keras.backend.backend() != "tensorflow":
    pytest.skip("the page is the same on every backend", allow_module_level=True)

ENTER, ESCAPE, HOME, END, RIGHT = "\ue007", "\ue00c", "\ue011", "\ue010", "\ue014"
# Has the page get files as from a drop or a paste; they are {name: base64}.
GIVE = """
const transfer = new DataTransfer();
for (const [name, text] of Object.entries(arguments[0])) {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  transfer.items.add(new File([bytes], name));
}
const Kind = arguments[1] === "drop" ? DragEvent : ClipboardEvent;
document.body.dispatchEvent(new Kind(arguments[1], { bubbles: true, cancelable: true,
  dataTransfer: transfer, clipboardData: transfer }));
"""
# The outlines of all bars of the four charts.
BARS = """[...document.querySelectorAll('#detail-sides .mark-rect path')]
  .map(path => path.getAttribute('d')).join()"""


@pytest.fixture(scope="module")
def downloads(browser, tmp_path_factory):
    """Where the browser puts what is downloaded."""
    path = tmp_path_factory.mktemp("downloads")
    where = {"behavior": "allow", "downloadPath": str(path)}
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", where)
    return path


def show(browser, client, **options):
    open_page(browser, client.address, **options)
    away = ActionChains(browser)
    away.w3c_actions.pointer_action.move_to_location(1, 1)
    away.perform()
    wait(lambda: value(browser, "document.getElementById('about').textContent"))


def give(browser, paths, way="drop"):
    files = {path.name: base64.b64encode(path.read_bytes()).decode() for path in paths}
    browser.execute_script(GIVE, files, way)
    settle(browser)


def settle(browser):
    """Waits until the page has what it asked for."""
    wait(lambda: value(browser, "document.documentElement.dataset.busy") != "true")


def boxes(browser):
    return find(browser, "#picture rect.box")


def text(browser, name):
    return browser.find_element("id", name).text


def move(browser, name, *keys):
    browser.find_element("id", name).send_keys(*keys)


def look_at(browser, row):
    """Points at a box."""
    ActionChains(browser).move_to_element(boxes(browser)[row]).perform()


def above(answer, threshold):
    return [row for row in answer["detections"] if row["result"]["score"] > threshold]


@pytest.mark.parametrize("way", ["drop", "paste"])
def test_an_image_that_is_given_shows_its_boxes(browser, client, folder, way):
    show(browser, client)
    give(browser, [folder / "one.png"], way)
    expected = above(client.detect(folder / "one.png"), 0.3)
    assert len(boxes(browser)) == len(expected) > 0
    labels = {box.get_attribute("aria-label") for box in boxes(browser)}
    results = [row["result"] for row in expected]
    assert labels == {f"{r['category_name']} {r['score']:.2f}" for r in results}
    assert text(browser, "status").startswith(f"{len(expected)} box")
    drawn = value(browser, "[...document.querySelectorAll('.box')].map(b => +b.getAttribute('x'))")
    np.testing.assert_allclose(sorted(drawn), sorted(row["box"][0] for row in expected), atol=0.01)
    assert not errors_of(browser)


def test_the_score_threshold_moves_without_the_server(browser, client, folder):
    show(browser, client)
    give(browser, [folder / "one.png"])
    answer = client.detect(folder / "one.png")
    browser.execute_script("window.fetch = () => { throw new Error('no network') }")
    move(browser, "score", HOME)
    assert text(browser, "score-value") == "0.05"
    assert len(boxes(browser)) == len(answer["detections"]) > len(above(answer, 0.3))
    move(browser, "score", RIGHT * 45)
    assert text(browser, "score-value") == "0.50"
    assert len(boxes(browser)) == len(above(answer, 0.5))
    move(browser, "score", END)
    assert not boxes(browser) and text(browser, "status").startswith("0 boxes above 1.00")
    assert not find(browser, "#problems li")


def test_the_nms_threshold_moves_without_the_network(browser, client, folder):
    show(browser, client)
    give(browser, [folder / "one.png"])
    move(browser, "score", HOME)
    counts = [len(boxes(browser))]
    before = client.server.num_images
    for key in (HOME, END):
        move(browser, "nms", key)
        wait(lambda: len(boxes(browser)) != counts[-1])
        counts.append(len(boxes(browser)))
    assert counts[1] < counts[0] < counts[2]
    assert client.server.num_images == before


def test_a_box_tells_its_sides_by_pointer_and_by_key(browser, client, folder):
    show(browser, client)
    give(browser, [folder / "one.png"])
    assert text(browser, "h-detail") == "A box" and not find(browser, "#detail-sides svg")
    row = max(above(client.detect(folder / "one.png"), 0.3), key=lambda row: row["result"]["score"])
    name, score = row["result"]["category_name"], row["result"]["score"]
    label = f"{name} {score:.2f}"
    index = [box.get_attribute("aria-label") for box in boxes(browser)].index(label)
    look_at(browser, index)
    assert text(browser, "h-detail") == f"{name}, score {score:.2f}"
    cells = [cell.text for cell in find(browser, "#detail-table td")]
    assert cells[:3] == [f"{v:.3f}" for v in (score, row["class_score"], row["quality"])]
    wait(lambda: len(find(browser, "#detail-sides svg.marks")) == 4)
    spread = row["result"]["uncertainties"]

    def captions():
        return [caption.text for caption in find(browser, "#detail-sides figcaption")]

    sides = zip(("left", "top", "right", "bottom"), row["box"], spread)
    wait(lambda: all(captions()))
    assert captions() == [f"{side}: {at:.1f} ± {u:.1f} px" for side, at, u in sides]
    assert len(find(browser, "#spreads rect")) == 4
    # A click keeps it while the pointer is elsewhere; Escape lets it go; keys do the same.
    ActionChains(browser).click().perform()
    other = (index + 1) % len(boxes(browser))
    look_at(browser, other)
    assert text(browser, "h-detail") == f"{name}, score {score:.2f}"
    browser.switch_to.active_element.send_keys(ESCAPE)
    assert text(browser, "h-detail") == "A box"
    boxes(browser)[index].send_keys(ENTER)
    look_at(browser, other)
    assert text(browser, "h-detail") == f"{name}, score {score:.2f}"
    assert all(box.get_attribute("tabindex") == "0" for box in boxes(browser))


def test_the_charts_follow_the_box(browser, client, folder):
    show(browser, client)
    give(browser, [folder / "one.png"])
    drawn = []
    for row in (0, 1):
        look_at(browser, row)
        wait(lambda: len(find(browser, "#detail-sides svg.marks")) == 4)
        wait(lambda: value(browser, BARS) not in ("", *drawn))
        drawn.append(value(browser, BARS))
    assert len(find(browser, "#detail-sides svg.marks")) == 4


def test_a_detector_without_distributions_says_so(browser, start, folder):
    from keras_gflv2.app.interactive_detector import InteractiveDetector

    decoder = PredictionDecoder(score_threshold=0.0, max_detections=3)
    model = small_detector("FCOS", image_size=(96, 128), prediction_decoder=decoder)
    client = start(InteractiveDetector(model), score_threshold=0.0)
    show(browser, client)
    give(browser, [folder / "one.png"])
    look_at(browser, 0)
    assert "This detector has no distributions" in text(browser, "detail-note")
    assert not find(browser, "#detail-sides svg") and not find(browser, "#spreads rect")


def test_several_images_and_what_is_downloaded(
    browser, client, folder, downloads, trained, tmp_path
):
    """The file is that of `keras-gflv2 predict --formats json`."""
    show(browser, client)
    paths = [folder / "one.png", folder / "two.png"]
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "large.jpg").write_bytes(bytes(300_000))
    wrong = [tmp_path / name for name in ("notes.txt", "empty.jpg", "large.jpg")]
    # As a person chooses them, several at a time.
    chosen = "\n".join(str(path) for path in (paths[0], *wrong, paths[1]))
    browser.find_element("id", "files").send_keys(chosen)
    wait(lambda: len(find(browser, "#images img")) == 2)
    settle(browser)
    said = sorted(item.text.partition("\n")[0] for item in find(browser, "#problems li"))
    assert said == [
        "empty.jpg is empty: there is nothing in the file.",
        "large.jpg has 0.3 MB, more than the 0.2 MB that are accepted (--max-megabytes).",
        "notes.txt is not an image that PIL can read: its content is of no known format.",
    ]
    find(browser, "#problems button")[0].click()
    assert len(find(browser, "#problems li")) == 2
    find(browser, "#images button")[1].click()
    assert len(boxes(browser)) == len(above(client.detect(paths[1]), 0.3))

    browser.find_element("id", "download").click()
    file = downloads / "detections.json"
    wait(file.exists)
    trained[0].save(tmp_path / "model.keras")
    command = [
        "predict",
        *map(str, paths),
        "--model",
        str(tmp_path / "model.keras"),
        "--verbose",
        "0",
    ]
    assert cli.main([*command, "--output", str(tmp_path / "found"), "--formats", "json"]) == 0
    expected = json.loads((tmp_path / "found" / "detections.json").read_text())
    found = json.loads(file.read_text())
    assert len(found) == len(expected) > 0
    for ours, theirs in zip(found, expected):
        assert list(ours) == list(theirs)
        assert ours["image_id"] == theirs["image_id"]
        assert theirs["file_name"].endswith(f"/{ours['file_name']}")
        for key in ("category_id", "score", "bbox", "uncertainties"):
            np.testing.assert_allclose(ours[key], theirs[key], rtol=1e-3, atol=1e-3)
    browser.find_element("id", "clear").click()
    assert not browser.find_element("id", "result").is_displayed()


def test_examples_are_looked_at(browser, client, folder):
    show(browser, client)
    wait(lambda: len(find(browser, "#example-list img")) == 2)
    wait(lambda: value(browser, "document.querySelector('#example-list img').naturalWidth") == 128)
    button = find(browser, "#example-list button")[1]
    assert button.text == "two"
    button.send_keys(ENTER)
    settle(browser)
    wait(lambda: boxes(browser))
    assert len(boxes(browser)) == len(above(client.detect(folder / "two.png"), 0.3))


def test_a_server_that_is_gone_and_an_image_that_it_forgot(browser, client, folder, monkeypatch):
    show(browser, client)
    give(browser, [folder / "one.png"])
    count = len(boxes(browser))
    client.server._kept._values.clear()
    before = client.server.num_images
    move(browser, "nms", RIGHT)
    wait(lambda: client.server.num_images == before + 1)  # it was sent once more
    settle(browser)
    assert len(boxes(browser)) >= count and not find(browser, "#problems li")
    browser.execute_script("window.fetch = () => Promise.reject(new TypeError('gone'))")
    move(browser, "nms", RIGHT)
    wait(lambda: find(browser, "#problems li"))
    assert "The server does not answer" in text(browser, "problems")
    assert boxes(browser)  # what was found is still there


def test_names_are_only_text(browser, start, trained, folder, tmp_path):
    from keras_gflv2.app.interactive_detector import InteractiveDetector

    evil = "<img src=x onerror=\"document.title='evil'\"></script>"
    config = {**trained[0].get_config(), "class_names": [evil, "b", "c"]}
    model = type(trained[0]).from_config(config)
    model.set_weights(trained[0].get_weights())
    client = start(InteractiveDetector(model), name=evil)
    show(browser, client)
    path = tmp_path / "<b>one.png"
    path.write_bytes((folder / "one.png").read_bytes())
    give(browser, [path, folder / "two.png"])
    assert value(browser, "document.title") == f"Try {evil}"
    assert find(browser, "#images button")[0].get_attribute("title") == "<b>one.png"
    assert not find(browser, "#images b") and not find(browser, "img[src=x]")


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1200])
def test_it_fits_a_phone_and_can_be_read_in_light_and_dark(browser, client, folder, width, theme):
    show(browser, client, width=width, theme=theme)
    give(browser, [folder / "one.png", folder / "two.png"])
    look_at(browser, 0)
    wait(lambda: len(find(browser, "#detail-sides svg.marks")) == 4)
    assert value(browser, "document.documentElement.scrollWidth") <= width
    style = "getComputedStyle(document.querySelector('{}')).{}".format
    page = style("body", "backgroundColor")
    assert (luminance(browser, page) > 0.5) == (theme == "light")
    readable = [("body", "color"), ("#status", "color"), ("#images small", "color")]
    for selector, kind in (*readable, ("#detail-sides svg text", "fill")):
        assert contrast(browser, page, style(selector, kind)) > 4.5  # WCAG 2.2, level AA
    button = [style("#choose", kind) for kind in ("color", "backgroundColor")]
    assert contrast(browser, *button) > 4.5
