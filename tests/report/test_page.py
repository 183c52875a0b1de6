"""The page in a real browser: light and dark, at a desk and on a phone."""

import io

import numpy as np
import pytest
from PIL import Image

PHONE, DESK = 390, 1280
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
# What a page must not say while it loads; a request beside the page itself would be one for the network.
TROUBLE = ("Runtime.exceptionThrown", "Log.entryAdded", "Runtime.consoleAPICalled", "Network.loadingFailed")

# The lowest contrast of any text with what lies behind it, as WCAG 2 defines it, and that text.
CONTRAST = """(() => {
  const channel = v => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const rgb = text => text.match(/[\\d.]+/g).map(Number);
  const bright = c => 0.2126 * channel(c[0]) + 0.7152 * channel(c[1]) + 0.0722 * channel(c[2]);
  const behind = e => { for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor);
                        if (c.length < 4 || c[3] > 0) return c; } return [255, 255, 255]; };
  let least = [99, ""];
  const all = "h1,h2,p,li,b,span,th,td,dt,dd,caption,summary,figcaption,code,svg text";
  for (const e of document.querySelectorAll(all)) {
    const style = getComputedStyle(e), ink = e.matches("text") ? style.fill : style.color;
    const a = bright(rgb(ink)), b = bright(behind(e));
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < least[0]) least = [ratio, e.textContent];
  }
  return least;
})()"""


def pixels(browser):
    return np.asarray(Image.open(io.BytesIO(browser.screenshot())).convert("RGB"), dtype=int)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [PHONE, DESK])
def test_fits_and_is_silent(browser, page, width, scheme):
    browser.open(page, width, 900, scheme)
    assert browser.evaluate(OVERFLOW) == 0
    assert browser.evaluate("document.title").startswith("model.onnx and")  # nothing injected has run
    said = [event for event in browser.events if event["method"] in TROUBLE]
    assert not said
    asked = [e["params"]["request"]["url"] for e in browser.events if e["method"] == "Network.requestWillBeSent"]
    assert asked == [page.as_uri()]


@pytest.mark.parametrize("width", [PHONE, DESK])
def test_light_and_dark_differ_everywhere(browser, page, width):
    shots = []
    for scheme in ("light", "dark"):
        browser.open(page, width, 900, scheme)
        shots.append(pixels(browser))
    light, dark = shots
    assert light.shape == dark.shape  # the theme moves nothing
    assert light.mean() > 200  # mostly paper, even with figures
    assert dark.mean() < 70
    # every band of the page as high as a line of text: no part keeps its light background in the dark
    bands = dark[: len(dark) // 40 * 40].reshape(-1, 40 * dark.shape[1], 3).mean((1, 2))
    assert bands.max() < 128


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_readable(browser, page, scheme):
    browser.open(page, DESK, 900, scheme)
    ratio, text = browser.evaluate(CONTRAST)
    assert ratio >= 4.5, text  # WCAG 2.1 AA
    browser.open(page, PHONE, 900, scheme)
    # screen pixels of the smallest letters in a figure: its own size, scaled as the drawing is
    size = """Math.min(...[...document.querySelectorAll("figure svg")].map(s => Math.min(...[...s.querySelectorAll(
              "text")].map(t => parseFloat(getComputedStyle(t).fontSize))) * s.getScreenCTM().a))"""
    assert browser.evaluate(size) >= 6  # exponents; the rest is at least 9


def test_figures_and_tables_are_named(browser, page):
    browser.open(page, DESK, 900, "light")
    assert browser.evaluate("document.querySelectorAll('figure svg').length") == 9
    unnamed = """[...document.querySelectorAll("figure svg, .scroll")].filter(e => !e.ariaLabel).length"""
    assert browser.evaluate(unnamed) == 0
    twice = """(ids => ids.length - new Set(ids).size)([...document.querySelectorAll("[id]")].map(e => e.id))"""
    assert browser.evaluate(twice) == 0  # a clip path would be taken from another figure


WIDE = [
    "<div style='width: 800px'>wide</div>",
    f"<style>pre {{ white-space: pre !important; overflow: visible !important }}</style><pre>{'wide' * 99}</pre>",
]


@pytest.mark.parametrize("fault", WIDE)
def test_an_overflow_would_be_seen(browser, page, tmp_path, fault):
    broken = tmp_path / "broken.html"
    broken.write_text(page.read_text().replace("</main>", fault + "</main>"))
    browser.open(broken, PHONE, 900, "light")
    assert browser.evaluate(OVERFLOW) > 0


def test_an_error_would_be_seen(browser, page, tmp_path):
    broken = tmp_path / "broken.html"
    broken.write_text(page.read_text().replace("</main>", "<script>missing()</script></main>"))
    browser.open(broken, PHONE, 900, "light")
    assert any(event["method"] in TROUBLE for event in browser.events)
