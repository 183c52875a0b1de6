"""Names, versions and safe paths of a repository."""

import os
from pathlib import Path

import pytest
from serving_models import small_model

from apa_deploy.serving.layout import LayoutError, fingerprint, scan
from apa_deploy.serving.model_config import ModelConfig

CONFIG = "max_batch_size: 4 dynamic_batching {} instance_group [ { count: 2 } ]"
SEVEN = "version_policy { specific { versions: 7 } }"
ENDLESS = "dynamic_batching { max_queue_delay_microseconds: 18446744073709551615 }"
ALL = "version_policy { all {} }"


def tree(root: Path, files: dict[str, str]) -> Path:
    """Write files; the content decides: text, or a link to `-> target`."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content.startswith("-> "):
            path.symlink_to(content[3:])
        else:
            path.write_text(content)
    return root


TREES = [
    ("bare files", {"a.onnx": "", "b.c.onnx": "", "notes.txt": ""}, {"a": [1], "b.c": [1]}),
    ("the latest version", {"m/1/model.onnx": "", "m/12/model.onnx": "", "m/2/model.onnx": ""}, {"m": [12]}),
    ("every version", {"m/1/model.onnx": "", "m/3/model.onnx": "", "m/config.pbtxt": ALL}, {"m": [1, 3]}),
    ("one version", {"m/1/model.onnx": "", "m/3/model.onnx": "",
                     "m/config.pbtxt": "version_policy { specific { versions: 1 } }"}, {"m": [1]}),
    ("the last two", {"m/1/model.onnx": "", "m/2/model.onnx": "", "m/3/model.onnx": "",
                      "m/config.pbtxt": "version_policy { latest { num_versions: 2 } }"}, {"m": [2, 3]}),
    ("another file name", {"m/1/net.onnx": ""}, {"m": [1]}),
    ("a file name by config", {"m/1/a.onnx": "", "m/1/b.onnx": "",
                               "m/config.pbtxt": 'default_model_filename: "b.onnx"'}, {"m": [1]}),
    ("a link within", {"old/1/model.onnx": "", "m.onnx": "-> old/1/model.onnx"}, {"old": [1], "m": [1]}),
    ("what is no model", {"a.onnx": "", "lost+found/x": "", "docs/readme": "", "README.md": "", ".git/HEAD": ""},
     {"a": [1]}),
    ("a Kubernetes volume", {"..2026_11_28/a.onnx": "", "..data": "-> ..2026_11_28", "a.onnx": "-> ..data/a.onnx"},
     {"a": [1]}),
    ("a Kubernetes volume of folders", {"..2026_11_28/b/1/model.onnx": "", "..data": "-> ..2026_11_28",
                                        "b": "-> ..data/b"}, {"b": [1]}),
    ("hidden entries", {".m.tmp/1/model.onnx": "", "a.onnx": ""}, {"a": [1]}),
]  # fmt: skip


@pytest.mark.parametrize(("files", "wanted"), [c[1:] for c in TREES], ids=[c[0] for c in TREES])
def test_names_and_versions(tmp_path, files, wanted):
    found = scan(tree(tmp_path, files), ModelConfig())
    assert {name: list(entry.artifacts) for name, entry in found.items()} == wanted
    assert not [entry.error for entry in found.values() if entry.error]


@pytest.mark.parametrize(("source", "name"), [("m.onnx", "m"), ("m", "m"), (".", "repository")])
def test_a_source_of_one_model(tmp_path, source, name):
    root = tmp_path / "repository"
    files = (
        {"1/model.onnx": ""} if source == "." else {"m.onnx": ""} if source == "m.onnx" else {"m/1/model.onnx": ""}
    )
    tree(root, files)
    assert list(scan(root / source, ModelConfig())) == [name]


@pytest.mark.parametrize("blobs", ["../blobs", "../../blobs"], ids=["beside", "as in a hub's cache"])
@pytest.mark.parametrize("source", [".", "net.onnx"])
def test_a_snapshot_of_a_hub_cache(tmp_path, blobs, source):
    """Its files are links to blobs without a suffix; whatever else leaves the folder is refused as ever."""
    root = tmp_path / "models--a--b" / ("snap" if blobs == "../blobs" else "snapshots/abc")
    tree(root, {f"{blobs}/0123": "", "net.onnx": f"-> {blobs}/0123", "out.onnx": f"-> {blobs}/../0123"})
    (root / blobs / ".." / "0123").write_text("")
    entries = scan(root / source, ModelConfig())
    assert [(a.version, a.path.name) for a in entries["net"].artifacts.values()] == [(1, "net.onnx")]
    if source == ".":
        assert "leaves the repository" in str(entries["out"].error)


REFUSED = [
    ("another model's config", {"m/1/model.onnx": "", "m/config.pbtxt": 'name: "other"'}, "m", "'other'"),
    ("sequences", {"m/1/model.onnx": "", "m/config.pbtxt": "sequence_batching {}"}, "m", "sequence_batching"),
    ("decoupled", {"m/1/model.onnx": "", "m/config.pbtxt": "model_transaction_policy { decoupled: true }"},
     "m", "decoupled"),
    ("a link that leaves", {"m.onnx": "-> ../outside.onnx"}, "m", "leaves the repository"),
    ("a version that leaves", {"m/1": "-> ../../outside"}, "m", "leaves the repository"),
    ("a config that leaves", {"m/1/model.onnx": "", "m/config.pbtxt": "-> ../../outside.pbtxt"}, "m", "leaves"),
    ("a config that is nowhere", {"m/1/model.onnx": "", "m/config.pbtxt": "-> gone"}, "m", "a link to nothing"),
    ("a config that is a folder", {"m/1/model.onnx": "", "m/config.pbtxt/x": ""}, "m", "a folder, a pipe"),
    ("an absolute link", {"m.onnx": "-> /etc/passwd"}, "m", "leaves the repository"),
    ("a file name with a folder", {"m/1/model.onnx": "", "m/config.pbtxt": 'default_model_filename: "../x"'},
     "m", "without a folder"),
    ("a name with a space", {"my model.onnx": ""}, "my model", "letters, digits"),
    ("no file", {"m/1/readme": ""}, "m", "no model.onnx"),
    ("two of one name", {"a.onnx": "", "a/1/model.onnx": "", "b.onnx": ""}, "a", "two models named a"),
    ("a version that is a file", {"m/1": "", "m/config.pbtxt": ""}, "m", "m/1: a file"),
    ("a named version that is a file", {"m/1/model.onnx": "", "m/7": "", "m/config.pbtxt": SEVEN},
     "m", "m/7: a file"),
    ("a named version that is not there", {"m/1/model.onnx": "", "m/config.pbtxt": SEVEN},
     "m", "versions 1, none of"),
    ("a million instances", {"m/1/model.onnx": "", "m/config.pbtxt": "instance_group { count: 1000000 }"},
     "m", "1000000 instances"),
    ("as many in small groups", {"m/1/model.onnx": "", "m/config.pbtxt": "instance_group { count: 9 }" * 1000},
     "m", "9000 instances"),
    ("a negative count", {"m/1/model.onnx": "", "m/config.pbtxt": "instance_group { count: -3 }"},
     "m", "count of -3"),
    ("an endless delay", {"m/1/model.onnx": "", "m/config.pbtxt": ENDLESS}, "m", "max_queue_delay_microseconds"),
    ("two files", {"m/1/a.onnx": "", "m/1/b.onnx": ""}, "m", "no model.onnx"),
    ("no version", {"m/model.onnx": ""}, "m", "beside the versions"),
    ("version 0", {"m/0/model.onnx": ""}, "m", "no version"),
    ("a broken config", {"m/1/model.onnx": "", "m/config.pbtxt": "max_batch_size: many"}, "m", "config.pbtxt"),
]  # fmt: skip


@pytest.mark.parametrize(("files", "name", "saw"), [c[1:] for c in REFUSED], ids=[c[0] for c in REFUSED])
def test_an_entry_that_cannot_be_served_says_why(tmp_path, files, name, saw):
    tree(tmp_path, {"outside.onnx": "", "outside/model.onnx": "", "outside.pbtxt": ""})
    entry = scan(tree(tmp_path / "repository", files), ModelConfig())[name]
    assert saw in str(entry.error)
    assert not entry.artifacts


def test_a_pipe_is_called_so(tmp_path):
    os.mkfifo(tmp_path / "pipe.onnx")
    entry = scan(tmp_path, ModelConfig())["pipe"]
    assert "a pipe or a device" in str(entry.error)
    tree(tmp_path, {"m/1/model.onnx": ""})
    os.mkfifo(tmp_path / "m" / "config.pbtxt")
    assert "a pipe or a device" in str(scan(tmp_path, ModelConfig())["m"].error)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(LayoutError, match="a pipe or a device"):
        scan(tmp_path / "pipe", ModelConfig())


def test_an_empty_source(tmp_path):
    with pytest.raises(LayoutError):
        scan(tmp_path, ModelConfig())


def test_config_overrules_the_defaults(tmp_path):
    files = {"m/1/model.onnx": "", "m/config.pbtxt": CONFIG}
    config = scan(tree(tmp_path, files), ModelConfig(max_batch=32, queue=7))["m"].artifacts[1].config
    assert (config.max_batch, config.instances, config.queue, config.delay) == (4, 2, 7, 0.0)


INSTANCES = [("", 3), ("count: 0", 1), ("count: 5", 5), ("}, { count: 4", 5)]


@pytest.mark.parametrize(("group", "wanted"), INSTANCES)
def test_instances(tmp_path, group, wanted):
    """A group without a count, or with 0, is one, as in Triton; without a group, the option counts."""
    text = f"instance_group [ {{ {group} }} ]" if group else ""
    files = {"m/1/model.onnx": "", "m/config.pbtxt": text}
    assert scan(tree(tmp_path, files), ModelConfig(instances=3))["m"].artifacts[1].config.instances == wanted


CHANGES = [
    ("nothing", lambda path: None, False),
    ("a rename over it", lambda path: small_model(path.with_name("new")).replace(path), True),
    ("a passport appears", lambda path: path.with_name("m.onnx.passport.json").write_text("{}"), True),
    ("weights appear", lambda path: path.with_name("m.onnx.data").write_text("x"), True),
    ("an unrelated file appears", lambda path: path.with_name("other.txt").write_text("x"), False),
]


@pytest.mark.parametrize(("change", "differs"), [c[1:] for c in CHANGES], ids=[c[0] for c in CHANGES])
def test_fingerprint(tmp_path, change, differs):
    path = small_model(tmp_path / "m.onnx")
    before = fingerprint(path, None)
    change(path)
    assert (fingerprint(path, None) != before) is differs
