"""Every link of a document to another file of the project leads somewhere, its heading too."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "examples" / "README.md"]
CODE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def prose(page: Path) -> str:
    return CODE.sub("", page.read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if "://" in link:
            continue
        name, _, heading = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        assert not heading or heading in anchors(target), link


def test_a_dead_link_is_seen(tmp_path):
    for link in ("gone.md", "#gone"):
        page = tmp_path / "page.md"
        page.write_text(f"# Page\n\n[to]({link})\n", encoding="utf-8")
        with pytest.raises(AssertionError, match=link):
            test_links_lead_somewhere(page)


PATH = re.compile(r"`((?:apa_deploy|exporters|tests|docs|docker|tools|plugins|benchmarks|examples)/[\w./-]+)`")
MODULE = re.compile(r"python -m ((?:benchmarks|tools)[\w.]*)([^`\n#]*)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_paths_and_modules_are_there(page):
    text = page.read_text(encoding="utf-8")
    for path in PATH.findall(text):
        assert path.endswith("/NAME") or (ROOT / path).exists(), path
    for module, options in MODULE.findall(text):
        place = ROOT / module.replace(".", "/")
        sources = [*place.parent.glob(f"{place.name}.py"), *place.glob("*.py")]
        assert sources, module
        for option in re.findall(r"--[a-z][a-z-]+", options):
            assert any(f'"{option}"' in source.read_text(encoding="utf-8") for source in sources), (module, option)
