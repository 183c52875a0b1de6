"""The documentation's site: built with every warning an error, whole without a network, and true to the code."""

import json
import re
import shutil
import time
from xml.dom import minidom

import pytest

from apa_deploy.doctor.known_errors import read_known_errors
from apa_deploy.records import passport
from tests.report.chromium import Chromium, installed
from tools.docs import pictures, reference
from tools.docs.__main__ import ROOT, build_site


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    done = build_site(folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_nothing_is_loaded_from_elsewhere(site):
    """Pages, styles and scripts name no other host but in links for the reader."""
    pages = list(site.rglob("*.html"))
    assert len(pages) > 40
    for page in pages:
        loaded = re.findall(r'<(?:script|link|img|iframe)[^>]*(?:src|href)="(https?:[^"]+)"', page.read_text())
        assert not [address for address in loaded if "canonical" not in address], page
    for style in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?https?:|@import ['\"]?https?:", style.read_text()), style


def test_every_option_and_known_error_is_there(site):
    text = (site / "reference" / "cli.html").read_text()
    for verb in reference.VERBS:
        for action in reference.parser_of(verb)._actions:
            assert all(f"<code>{option}" in text for option in action.option_strings), (verb, action)
    errors = (site / "reference" / "errors.html").read_text()
    assert errors.count("<h2") == len(read_known_errors())
    names = (site / "reference" / "python.html").read_text()
    for name in ("load", "Session", "replace_activations", "assert_parity", "AGLU", "read_passport"):
        assert re.search(rf"<h3[^>]*>.{{0,200}}{name}", names, re.DOTALL), name


def test_search_works_from_a_disk(site, tmp_path):
    if not installed():
        pytest.skip("no Chromium: apt-get install chromium")
    with Chromium(tmp_path) as browser:
        browser.open(site / "index.html", 1200, 800, "dark")
        # the search box asks its worker again and again until that is ready
        browser.evaluate("""(() => {
          document.querySelector('[data-md-toggle=search]').click()
          const box = document.querySelector('[data-md-component=search-query]')
          box.focus()
          box.value = 'QuickGELU'
          setInterval(() => box.dispatchEvent(new KeyboardEvent('keyup', {bubbles: true})), 200)
        })()""")
        found, end = "", time.monotonic() + 60
        while "maths.html" not in found and time.monotonic() < end:
            time.sleep(0.2)
            found = browser.evaluate("document.querySelector('[data-md-component=search-result]').innerHTML")
        assert "maths.html" in found


@pytest.mark.long
def test_a_dead_link_stops_the_build(tmp_path):
    for part in ("docs", "apa_deploy", "exporters", "tools", "examples"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("*.so", "*.pth"))
    for page in (*ROOT.glob("*.md"), ROOT / "mkdocs.yml"):
        shutil.copy(page, tmp_path)
    with (tmp_path / "docs" / "maths.md").open("a") as page:
        page.write("\n[away](verify.md#no-such-heading)\n")
    done = build_site(tmp_path / "site", tmp_path)
    assert done.returncode != 0 and "no-such-heading" in done.stderr


def test_schema_is_that_of_a_passport():
    schema = json.loads(reference.passport_schema())
    fields = {field.alias or name for name, field in passport.Passport.model_fields.items()}
    assert set(schema["properties"]) == {*fields, "self_sha256"}
    one = passport.Passport(
        created=passport.now(), format="onnx", options={}, architecture="a", weights="w", input_shape=(3, 4, 4),
        output_names=["logits"], inputs=[], outputs=[], versions={}, activations=[],
    )  # fmt: skip
    written = json.loads(passport.dump(one))
    assert set(written) == set(schema["properties"])
    assert re.fullmatch(schema["properties"]["self_sha256"]["pattern"], written["self_sha256"])
    assert "lambda" in schema["$defs"]["ActivationRecord"]["properties"]


VARIABLE = re.compile(r"""["'$({](APA_[A-Z_]+)\b""")
# of CMake and C++: no variables of the environment
OF_THE_BUILD = re.compile(r"_H$|_CUH$")


def test_every_variable_is_documented():
    page = (ROOT / "docs" / "environment.md").read_text()
    sources = [
        *(ROOT / "apa_deploy").rglob("*.py"), *(ROOT / "plugins" / "fetch").glob("*.py"),
        ROOT / "plugins" / "onnxruntime" / "choice.cc", ROOT / "plugins" / "tensorrt" / "plugin_runtime.cc",
        ROOT / "exporters" / "apa_exporters" / "triton" / "repository_files" / "start",
    ]  # fmt: skip
    used = {
        name for path in sources for name in VARIABLE.findall(path.read_text()) if not OF_THE_BUILD.search(name)
    }
    assert len(used) >= 8
    documented = set(re.findall(r"`(APA_[A-Z_]+)`", page))
    assert used == documented


def numbers_and_rest(svg):
    return [float(n) for n in re.findall(r"-?\d+\.?\d*", svg)], re.sub(r"-?\d+\.?\d*", "#", svg)


@pytest.mark.parametrize("name", ["activations", "architecture"])
def test_picture_is_current(name):
    """To a tenth of a pixel: processors differ in the last bits of exp."""
    pytest.importorskip("matplotlib")
    drawn, drawn_rest = numbers_and_rest(getattr(pictures, name)())
    kept, kept_rest = numbers_and_rest((pictures.PICTURES / f"{name}.svg").read_text())
    assert drawn_rest == kept_rest
    assert drawn == pytest.approx(kept, abs=0.1)


def test_photograph_is_current(tmp_path):
    """It was taken of the page that the templates make now; where not: python -m tools.docs.pictures --report."""
    pytest.importorskip("matplotlib")
    image = pytest.importorskip("PIL.Image")
    path = pictures.PICTURES / "report.png"
    assert path.stat().st_size < 150_000
    page = pictures.report_page(tmp_path)
    assert image.open(path).text["page"] == pictures.describe_page(page)
    page.write_text(page.read_text().replace("Passed", "Failed"))
    assert image.open(path).text["page"] != pictures.describe_page(page)


@pytest.mark.long
def test_demo_picture_is_current(tmp_path):
    drawn = pictures.terminal(pictures.record_demo(tmp_path))
    kept = (pictures.PICTURES / "demo.svg").read_text()
    assert pictures.comparable(drawn) == pictures.comparable(kept)


def test_pictures_are_whole():
    for path in pictures.PICTURES.glob("*.svg"):
        text = path.read_text()
        assert "http" not in text.replace("http://www.w3.org", ""), path
        minidom.parse(str(path))
