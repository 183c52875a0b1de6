"""What the tests share hides no fault."""

import pytest

from apa_deploy.loading import torch_trace
from apa_deploy.loading.torch_network import TorchNetwork
from apa_deploy.network import Metadata
from apa_deploy.tensors.signature import image_signature
from tests.networks import tiny_net
from tests.scheduling import unit_of


def network(seed=0):
    return TorchNetwork(tiny_net(seed), image_signature((3, 16, 16)), Metadata("tiny"))


def test_a_remembered_trace_is_of_the_same_weights():
    first, other = network().trace(), network(1).trace()
    assert first.proto != other.proto
    first.proto.graph.node[0].name = "spoilt"
    again = network().trace()
    assert (again.sites, again.output_names) == (first.sites, first.output_names)
    assert again.proto.graph.node[0].name != "spoilt"


def test_a_fault_in_what_traces_is_not_hidden(monkeypatch):
    network().trace()
    monkeypatch.setattr(torch_trace, "narrow", lambda proto: pytest.fail("seen"))
    with pytest.raises(pytest.fail.Exception, match="seen"):
        network().trace()


@pytest.mark.parametrize(
    ("nodeid", "unit"),
    [
        ("tests/test_files.py::test_a[x::y]", "tests/test_files.py"),
        ("tests/verification/test_run.py::test_b", "tests/verification/"),
    ],
)
def test_a_worker_has_a_file_whole(nodeid, unit):
    assert unit_of(nodeid) == unit
