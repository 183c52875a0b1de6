"""What users report, word for word: each message finds its cause and its command."""

import re
import tomllib
from pathlib import Path

import pytest

from apa_deploy.cli.doctor import main
from apa_deploy.doctor.known_errors import explain_errors, read_known_errors

REPORTS = tomllib.loads(Path(__file__).with_name("reported_errors.toml").read_text(encoding="utf-8"))["report"]


@pytest.mark.parametrize("report", REPORTS, ids=lambda report: report["thread"])
def test_reported(report):
    first = explain_errors(report["message"])[0]
    assert first.name == report["error"]
    answer = f"{first.cause} {first.do}"
    assert not [words for words in report["answer"] if words not in answer], answer


def test_every_error_of_the_table_is_reported():
    assert {row.name for row in read_known_errors()} == {report["error"] for report in REPORTS}


def test_no_answer_leaves_a_gap():
    for report in REPORTS:
        for one in explain_errors(report["message"]):
            assert not re.search(r"[{}]|  ", one.cause + one.do)


def test_there_are_sixty_causes():
    assert len({row.name for row in read_known_errors()}) >= 60


def test_words_are_met_in_any_order():
    words = ["no optimization profile was given", "the network has dynamic inputs"]
    assert {explain_errors(", ".join(w))[0].name for w in (words, words[::-1])} == {"no optimization profile"}
    assert explain_errors("the network has dynamic inputs") == []


def test_an_unknown_error_ends_with_what_to_collect(capsys):
    assert main(["--error", "it does not work"]) == 2
    said = capsys.readouterr().err
    assert all(words in said for words in ("apa-doctor --json", "first error", "docs/doctor.md"))


def test_a_log_with_two_errors_gets_both_answers():
    two = {"driver too old", "engine for another GPU"}
    log = "\n".join(report["message"] for report in REPORTS if report["error"] in two)
    assert {one.name for one in explain_errors(log)} == two


UNRELATED = """
it does not work
Segmentation fault (core dumped)
all results are fine
ZeroDivisionError: division by zero
ValueError: could not convert string to float: 'abc'
KeyError: 'epoch'
TypeError: forward() takes 2 positional arguments but 3 were given
AttributeError: 'NoneType' object has no attribute 'shape'
IndexError: list index out of range
FileNotFoundError: [Errno 2] No such file or directory: 'data.csv'
PermissionError: [Errno 13] Permission denied: '/root/x'
json.decoder.JSONDecodeError: Expecting value: line 1 column 1 (char 0)
UnicodeDecodeError: 'utf-8' codec can't decode byte 0x80 in position 0
RecursionError: maximum recursion depth exceeded
ModuleNotFoundError: No module named 'pandas'
ImportError: cannot import name 'foo' from 'bar'
psycopg2.OperationalError: connection refused, is the server running on port 5432?
requests.exceptions.ReadTimeout: HTTPSConnectionPool(host='x', port=443): Read timed out
ssl.SSLCertVerificationError: certificate verify failed
git: fatal: not a git repository
make: *** No rule to make target 'foo'. Stop.
gcc: error: unrecognized command-line option '-foo'
undefined reference to `main'
npm ERR! code ENOENT
docker: Error response from daemon: pull access denied for x
kubectl: error: the server doesn't have a resource type "pod"
Killed
Bus error
RuntimeError: mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)
RuntimeError: Expected all tensors to be on the same device
RuntimeError: Input type (torch.FloatTensor) and weight type (torch.HalfTensor) should be the same
RuntimeError: element 0 of tensors does not require grad and does not have a grad_fn
RuntimeError: one of the variables needed for gradient computation has been modified by an inplace operation
UserWarning: The given NumPy array is not writable
DataLoader worker (pid 1234) is killed by signal: Killed
loss is nan at step 1200
ValueError: Target size (torch.Size([4])) must be the same as input size (torch.Size([4, 1]))
matplotlib: UserWarning: FigureCanvasAgg is non-interactive
sqlite3.OperationalError: database is locked
yaml.scanner.ScannerError: mapping values are not allowed here
pip: ERROR: Could not find a version that satisfies the requirement foo
java.lang.NullPointerException
thread 'main' panicked at src/main.rs:2: index out of bounds
Traceback (most recent call last): KeyboardInterrupt
sqlalchemy.exc.ResourceClosedError: This result object does not return rows. engine.execute results has been closed
Unity engine: output log says NullReferenceException
jinja2 template engine output error: TemplateNotFound
KeyError: 'output' while docker engine was starting
AssertionError: Assertion failed: (rows > 3) && "need more than three rows of data"
TypeError: save() got an unexpected keyword argument 'report'
Failed to load library libssl.so: not found
nginx: connect() failed (111: Connection refused) while connecting to upstream 127.0.0.1:8000
ModuleNotFoundError: No module named 'models'
AttributeError: 'NoneType' object has no attribute 'serialize'
java.lang.OutOfMemoryError: Java heap space
pandas: index out of range in selection
kubectl: unable to find backend service web
django: invalid graph of migrations
torch.distributed.DistBackendError: NCCL error, unhandled system error
""".splitlines()


def test_there_are_forty_unrelated_texts():
    assert len(UNRELATED) > 40


@pytest.mark.parametrize("text", UNRELATED)
def test_nothing_is_made_up(text):
    assert explain_errors(text) == []
