"""Headers of real engines, one for every capability that the builder knows, and of damaged ones."""

import json

import pytest

from apa_deploy.runtimes.engine_header import RTX, TENSORRT, metadata_before, read_header

# What trtexec --getPlanVersionOnly reads of a TensorRT engine: tag, serialisation 0, version at byte 24.
TENSORRT_10_14 = b"ftrt" + bytes(20) + bytes([10, 14, 1, 48]) + bytes(36)
CAPABILITIES = {
    "portable": ("8.0 and later",),
    "SM86+SM120": ("8.6", "12.0"),
    "SM75": ("7.5",),
    "SM80": ("8.0",),
    "SM86": ("8.6",),
    "SM89": ("8.9",),
    "SM120": ("12.0",),
    "SM121": ("12.1",),
}


def test_the_table_has_every_capability_of_the_builder(engines):
    assert set(CAPABILITIES) == set(engines.names)


@pytest.mark.parametrize("name", CAPABILITIES)
def test_rtx(engines, name):
    header = read_header(engines.start(name))
    assert header.product == RTX
    assert header.version_text == engines.version
    assert header.bytes == engines.path(name).stat().st_size
    assert header.capabilities == CAPABILITIES[name]


def test_tensorrt():
    header = read_header(TENSORRT_10_14)
    assert (header.product, header.version_text) == (TENSORRT, "10.14.1.48")
    assert header.bytes is None
    assert header.capabilities is None


def test_another_serialisation_tells_no_version():
    header = read_header(TENSORRT_10_14[:4] + b"\x07" + TENSORRT_10_14[5:])
    assert (header.serialisation, header.version_text) == (7, "an unknown version")


@pytest.mark.parametrize("start", [b"", b"ftrt", TENSORRT_10_14[:63], b"qtrt" + bytes(60), bytes(64), b"\x08" * 64])
def test_no_header(start):
    assert read_header(start) is None


def test_metadata_before_an_engine(engines):
    text = json.dumps({"author": "Ultralytics", "stride": 32}).encode()
    start = len(text).to_bytes(4, "little") + text + engines.start("SM86")
    skip, metadata = metadata_before(start)
    assert metadata["author"] == "Ultralytics"
    assert read_header(start[skip:]).capabilities == ("8.6",)


@pytest.mark.parametrize(
    "start",
    [
        b"",
        bytes(64),
        b"\x05\0\0\0{abc}" + TENSORRT_10_14,  # no JSON
        b"\x04\0\0\0[12]" + TENSORRT_10_14,  # no object
        b"\x02\0\0\0{}" + b"ONNX" + bytes(60),  # no engine behind it
        b"\xff\xff\xff\xff{}" + TENSORRT_10_14,  # a length beyond the file
        TENSORRT_10_14,
    ],
)
def test_no_metadata(start):
    assert metadata_before(start) is None
