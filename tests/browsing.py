"""A real browser without a window, of the fixture `browser`: opening pages, looking at them."""

import os
import shutil

import pytest


def open_browser():
    """Chromium; skips the test where there is none."""
    binary = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if not binary or not driver:
        pytest.skip("no browser: apt-get install chromium chromium-driver")
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for argument in ("headless=new", "disable-gpu", "disable-dev-shm-usage", "no-first-run"):
        options.add_argument(f"--{argument}")
    if os.geteuid() == 0:  # as in a container
        options.add_argument("--no-sandbox")
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))


def open_page(browser, address, width=1200, theme="light"):
    """Opens an address in a window of some pixels, light or dark."""
    errors_of(browser)  # of pages before
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    features = [{"name": "prefers-color-scheme", "value": theme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    browser.get(address)


def errors_of(browser):
    """What the browser complained about since the last time."""
    return [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]


def wait(condition):
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(None, 60, poll_frequency=0.05).until(lambda _: condition())


def value(browser, expression):
    return browser.execute_script(f"return {expression}")


def find(browser, selector):
    return browser.find_elements("css selector", selector)


def choose(browser, name, text):
    from selenium.webdriver.support.ui import Select

    Select(browser.find_element("id", name)).select_by_visible_text(text)


def luminance(browser, color):
    """Relative luminance, 0 to 1, of a color: an expression of JavaScript for "rgb(...)"."""
    red, green, blue = (
        (part / 255) ** 2.2
        for part in value(browser, f"{color}.match(/\\d+/g).slice(0, 3).map(Number)")
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(browser, *colors):
    """The contrast of two colors by WCAG 2.2, 1 to 21."""
    dark, light = sorted(luminance(browser, color) for color in colors)
    return (light + 0.05) / (dark + 0.05)
