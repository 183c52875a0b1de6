"""Names are data wherever text leaves the program: terminals, JSON, Markdown, pages, drawings."""

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from apa_deploy.cli.common import run_verb, verb_parser
from apa_deploy.errors import InputError
from apa_deploy.escaping import in_json, in_markdown, printable
from apa_deploy.terminal import Terminal

NAMES = {
    "escape": "\x1b[31mred\x1b[0m",
    "bell and backspace": "ok\x07\b\b",
    "newline": "a\nerror: b",
    "right to left": "\u202egnp.exe",
    "C1": "\x9b31m",
    "line separator": "a\u2028b",
    "lone surrogate": "\ud800",
    "zero width": "a\u200bb",
    "rich markup": "[red]x[/red]",
    "emoji code": ":bomb:",
    "formula": "$\\frac{1}{$",
    "tag": "<script>x</script>",
    "image": "![t](http://127.0.0.1:9/x.png)",
    "link": "[c](javascript:alert(1))",
    "reference": "[a]: javascript:x",
    "heading": "# x",
    "table": "a|b",
    "mention": "@someone #12 www.example.org",
    "empty": "",
    "long": "n" * 3000,
    "letters of the world": "名前",
}
LIVE = ("![", "](", "<", "[a]:", "://", "www.", "@", "| ", "\x1b", "\n", "\u202e", "\u2028", "\x9b")


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_a_terminal_shows_every_letter_and_nothing_acts(name):
    text = io.StringIO()
    console = Terminal(file=text, width=80)
    console.print(name)
    console.table(("name", "a", "b"), [[name, "1", "2"], ["other", "1", "3"]], name)
    shown = text.getvalue()
    assert shown.replace("\n", "").isprintable()
    assert shown.count(printable(name)) >= 3  # neither cut nor changed, wherever it stands
    assert all(part in shown for part in ("other", "2", "3"))


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_markdown_is_not_led(name):
    shown = in_markdown(name)
    assert shown.isprintable()
    bare = shown.replace("\\[", "").replace("\\|", "")
    assert not [mark for mark in LIVE if mark in bare and mark != "]("]
    assert "[" not in bare  # no link begins
    assert not shown.startswith("#")


HARMLESS = [
    ("0.95 [0.931, 0.969]", "0.95 [0.931, 0.969]"),
    ("-0.4", "-0.4"),
    ("layer1.act_2", "layer1.act_2"),
    ("[1](x)", "\\[1](x)"),
    ("_a_", "\\_a\\_"),
    ("1. x", "&#49;. x"),
]


@pytest.mark.parametrize(("text", "shown"), HARMLESS)
def test_markdown_leaves_what_is_harmless(text, shown):
    assert in_markdown(text) == shown


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_json_is_visible_ascii_and_reads_back(name):
    document = in_json(json.dumps({"name": name}, ensure_ascii=False, indent=2))
    assert document.isascii() and document.replace("\n", "").isprintable()
    assert json.loads(document) == {"name": name}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_an_error_keeps_its_line(name, capsys):
    def fail(_):
        raise InputError(name, "a name", "Rename it.")

    assert run_verb(verb_parser("apa-test", ""), fail, []) == 2
    first, *others = capsys.readouterr().err.removesuffix("\n").split("\n")
    assert first.startswith("error: ")
    assert all(line.startswith("  ") and line.isprintable() for line in others)
    assert len(first) < 1300


MISUSE = [
    (["--jsn"], "unknown --jsn; wanted an option of this command. Did you mean --json?"),
    (["more"], "unknown more; wanted nothing more."),
    (["--\x1b[31m"], r"unknown --\x1b[31m; wanted an option"),
    (["--json=1"], "--json with the value '1'; wanted none"),
]


@pytest.mark.parametrize(("given", "said"), MISUSE)
def test_misuse_is_one_error_of_three_parts(given, said, capsys):
    with pytest.raises(SystemExit) as stop:
        run_verb(verb_parser("apa-test", ""), lambda _: 0, given)
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1 and "usage" not in error


def test_a_file_may_follow_an_option():
    parser = verb_parser("apa-test", "")
    parser.add_argument("first", nargs="?")
    parser.add_argument("others", nargs="*")
    taken = []
    assert (
        run_verb(parser, lambda options: taken.append((options.first, options.others)) or 0, ["a", "--debug", "b"])
        == 0
    )
    assert taken == [("a", ["b"])]


def test_a_full_disk_behind_the_output_is_no_bug_of_ours():
    code = (
        "import sys; from apa_deploy.cli.common import run_verb, verb_parser;"
        "run = run_verb(verb_parser('t', ''), lambda o: print('x'), [])"
    )
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([sys.executable, "-c", f"{code}; sys.exit(run)"], stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 2
    assert done.stderr.decode().startswith("error: standard output or a temporary file: No space left")


@pytest.mark.parametrize("width", [20, 40, 80, None])
def test_prose_breaks_between_words_alone(width):
    words = ["a/long/path" * 9, *(["passed:", "every", "output", "is", "right"] * 5)]
    text = io.StringIO()
    Terminal(file=text, width=width).print("  " + " ".join(words))
    first, *others = text.getvalue().splitlines()
    assert " ".join([first, *others]).split() == words
    assert all(
        line.startswith("  ") and (" " not in line.strip() or len(line) <= (width or 10**6))
        for line in (first, *others)
    )
    assert bool(others) == (width is not None)


def test_lines_of_another_program_are_lines_and_pass_for_none_of_ours():
    text = io.StringIO()
    Terminal(file=text, width=40).print_lines("NOT VERIFIED: it died:\npassed\x1b[31m: all is well\n  Traceback")
    assert text.getvalue().splitlines() == [
        "NOT VERIFIED: it died:",
        r"  passed\x1b[31m: all is well",
        "    Traceback",
    ]


def test_a_value_stays_beside_its_name():
    headers, values = ("activation", "fp16 throughout", "bf16 here"), ("2.6e-03", "7.8e-03")
    for width in range(20, 90, 7):
        text = io.StringIO()
        Terminal(file=text, width=width).table(headers, [[f"backbone.layer{i}.unirect" * 4, *values] for i in "ab"])
        assert all(f"{name} {value}" in text.getvalue() for name, value in zip(headers[1:], values, strict=True))


def test_a_table_at_any_width_loses_nothing():
    rows = [[f"backbone.layer{i}.unact", "AGLU", f"{i / 7:.9f}", "relu+1e-8"] for i in range(5)]
    for width in (20, 40, 60, 80, 160, None):
        text = io.StringIO()
        Terminal(file=text, width=width).table(("activation", "kind", "lambda", "floor"), rows)
        shown = text.getvalue()
        assert all(cell in shown for row in rows for cell in row), width
        assert "…" not in shown
