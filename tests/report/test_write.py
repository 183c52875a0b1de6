"""HTML, Markdown and JSON: complete, self-contained, safe; and the paths that are refused."""

import re
import sys
from itertools import pairwise

import pytest
from report_example import INJECTION, report

from apa_deploy.errors import InputError, MissingError
from apa_deploy.report import Report, check_report_path, read_report, write_report


def test_page_needs_nothing_else(page):
    text = page.read_text()
    addresses = re.findall(r'(?:src|href|xlink:href)="([^"]*)"|url\(([^)]*)\)|@import', text)
    assert all((a or b).startswith("#") for a, b in addresses)
    assert "://" not in re.sub(r'xmlns(:\w+)?="[^"]*"', "", text)
    assert "<script" not in text
    assert "<img" not in text


SAID = (
    "All is within limits", "infinite", "NaN", "97.12%", "AMD EPYC", "no NVIDIA GPU", "OMP_NUM_THREADS", "231 MB",
    "0.95 [0.931, 0.969]", "44 [43.1, 44.9]", "71%", "ab12ab12", "apa-verify", "A note.",
)  # fmt: skip


def test_every_part_is_shown(page, tmp_path):
    write_report(report(), tmp_path / "r.md")
    for text in (page.read_text(), (tmp_path / "r.md").read_text()):
        assert not [said for said in SAID if said not in text]


def test_markdown_tables_hold_together(tmp_path):
    write_report(report(), tmp_path / "r.md")
    lines = (tmp_path / "r.md").read_text().splitlines()
    widths = [len(re.findall(r"(?<!\\)\|", line)) if line.startswith("|") else 0 for line in lines]
    assert sum(widths) > 100
    assert all(b in (0, a) for a, b in pairwise(widths) if a)
    assert "<script" not in "\n".join(lines)


def test_json_reads_back(tmp_path):
    made = report()
    write_report(made, tmp_path / "r.json")
    back = read_report(tmp_path / "r.json")
    assert back.model_dump_json() == made.model_dump_json()
    assert back.outputs[1].max_rel == float("inf")
    assert back.activation_errors[-1].measured != back.activation_errors[-1].measured
    assert INJECTION in back.notes


NAMES = (
    "$\\frac{1}{$", "x$^{$", "a$b$c", "\\alpha_1", "\\u", "\x1b[31mred", "a\nb", "\u202eevil",
    "<script>x</script>", "", "n" * 3000, "\ud800", "名",
)  # fmt: skip


@pytest.mark.parametrize("suffix", [".html", ".md"])
@pytest.mark.filterwarnings("error")
def test_names_are_data_wherever_they_are_drawn(suffix, tmp_path):
    made = report()
    for i, name in enumerate(NAMES):
        made.curves[i].path = made.activation_errors[i].path = name
        made.activation_errors[i].measured = 1.0  # among the largest, which are drawn
    for one, name in zip(made.latency, NAMES, strict=False):
        one.name = name
    made.comparisons[0].name = made.title = "\\u and ".join(NAMES)
    made.commands, made.notes = ["\n".join(NAMES)], list(NAMES)
    write_report(made, tmp_path / f"r{suffix}")
    text = (tmp_path / f"r{suffix}").read_text()
    assert not {c for c in text if not c.isprintable()} - {"\n"}
    code = "    " if suffix == ".md" else "no line"  # indented code shows every letter
    assert not [line for line in text.splitlines() if "<script" in line and not line.startswith(code)]
    if suffix == ".html":
        drawn = " ".join(re.findall(r"<text[^>]*>([^<]*)</text>", text))
        assert all(name in drawn for name in ("$\\frac{1}{$", "x$^{$", "a$b$c", "\\alpha_1", "\\x1b[31mred"))


@pytest.mark.parametrize("suffix", [".html", ".md", ".json"])
def test_an_empty_report_is_whole(suffix, tmp_path):
    write_report(Report(title="Nothing found"), tmp_path / f"r{suffix}")
    assert "Nothing found" in (tmp_path / f"r{suffix}").read_text()


@pytest.mark.parametrize("content", ["", "{}", '{"schema_version": 2, "title": "t"}', '{"title": 3}'])
def test_a_damaged_report_is_refused(content, tmp_path):
    (tmp_path / "r.json").write_text(content)
    with pytest.raises(InputError, match="schema version 1"):
        read_report(tmp_path / "r.json")


def test_paths_are_refused_before_the_work(tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"\.html, \.md, \.json"):
        check_report_path(tmp_path / "r.pdf")
    (tmp_path / "r.html").touch()
    with pytest.raises(InputError, match="--force"):
        check_report_path(tmp_path / "r.html")
    check_report_path(None)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingError, match=re.escape("pip install 'apa-deploy[report]'")):
        check_report_path(tmp_path / "new.html")
    check_report_path(tmp_path / "new.json")  # needs neither


def test_nothing_half_written(tmp_path, monkeypatch):
    monkeypatch.setattr("apa_deploy.report.write._text", lambda *_: "\ud800")  # cannot be encoded
    with pytest.raises(UnicodeEncodeError):
        write_report(report(), tmp_path / "r.html")
    assert list(tmp_path.iterdir()) == []
