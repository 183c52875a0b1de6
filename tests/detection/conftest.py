"""Small detectors share two backbones: each is traced once, and copied."""

import dataclasses
import hashlib

import onnx
import pytest

from apa_deploy.architectures.resnet import ResNet
from apa_deploy.loading.torch_network import TorchNetwork


@pytest.fixture(autouse=True, scope="session")
def trace_backbones_once():
    trace, known = TorchNetwork.trace, {}

    def trace_once(self, opset=18, batch=None):
        if not isinstance(self.module, ResNet):
            return trace(self, opset, batch)
        weights = b"".join(v.numpy().tobytes() for v in self.module.state_dict().values())
        key = (opset, batch, self.signature, hashlib.sha256(weights).hexdigest())
        if key not in known:
            known[key] = trace(self, opset, batch)
        proto = onnx.ModelProto()
        proto.CopyFrom(known[key].proto)
        return dataclasses.replace(known[key], proto=proto)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TorchNetwork, "trace", trace_once)
        yield
