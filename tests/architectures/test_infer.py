"""apa_deploy.architectures: every one of upstream's networks from its own keys, and what is refused."""

import dataclasses

import pytest
import torch

from apa_deploy.architectures import KeysError, network_of
from apa_deploy.architectures.infer import ArchitectureError, infer_spec
from apa_deploy.architectures.resnet import ResNet
from apa_deploy.architectures.spec import Head, Spec
from apa_deploy.errors import InputError

BASE = Spec(
    cifar=False, bottleneck=True, depths=(3, 4, 6, 3), in_channels=3, widths=(64, 128, 256, 512), groups=1,
    base_width=64, gate="none", learned_units=False, learned_channel_gate=False, learned_spatial_gate=False,
    normed_gate=False, reduction=16, heads=(Head("fc", "linear", 2048, 10),), contrastive=0,
    unit_floor="relu+1e-8",
)  # fmt: skip
CIFAR = dataclasses.replace(
    BASE, cifar=True, bottleneck=False, depths=(5, 5, 5), widths=(16, 32, 64), reduction=4,
    heads=(Head("linear", "linear", 64, 10),),
)  # fmt: skip
LEARNED = {"learned_units": True, "learned_channel_gate": True, "normed_gate": True}
BASIC = {"bottleneck": False, "heads": (Head("fc", "linear", 512, 10),)}

NETWORKS = [
    # name, keys (num_batches_tracked included), changes to the base; key counts are UPSTREAM's
    ("resnet50", 320, BASE, {}),
    ("resnet152", 932, BASE, {"depths": (3, 8, 36, 3)}),
    ("resnext50_32x4d", 320, BASE, {"groups": 32, "base_width": 4}),
    ("wide_resnet50_2", 320, BASE, {"base_width": 128}),
    ("resnet18", 122, BASE, {"depths": (2, 2, 2, 2), **BASIC}),
    ("resnet34", 218, BASE, BASIC),
    ("se_resnet50", 352, BASE, {"gate": "se"}),
    ("se_resnet50", 514, BASE, {"gate": "se", **LEARNED}),
    ("se_resnet101", 1024, BASE, {"gate": "se", "depths": (3, 4, 23, 3), **LEARNED}),
    ("se_resnet152", 1534, BASE, {"gate": "se", "depths": (3, 8, 36, 3), **LEARNED}),
    ("se_resnext50_32x4d", 514, BASE, {"gate": "se", "groups": 32, "base_width": 4, **LEARNED}),
    ("cb_resnet50", 512, BASE, {"gate": "cbam"}),
    ("cb_resnet50", 642, BASE, {"gate": "cbam", **LEARNED, "normed_gate": False}),
    ("cb_resnet50", 674, BASE, {"gate": "cbam", **LEARNED, "learned_spatial_gate": True, "normed_gate": False}),
    ("sp_resnet50", 416, BASE, {"gate": "spatial"}),
    ("sp_resnet50", 546, BASE, {"gate": "spatial", "learned_units": True, "learned_spatial_gate": True}),
    ("resnet32", 188, CIFAR, {}),
    ("se_resnet32", 218, CIFAR, {"gate": "se"}),
    ("se_resnet32", 340, CIFAR, {"gate": "se", **LEARNED}),
    ("cb_resnet32", 368, CIFAR, {"gate": "cbam"}),
    ("cb_resnet32", 460, CIFAR, {"gate": "cbam", **LEARNED, "normed_gate": False}),
    ("con_resnet32", 192, CIFAR, {"contrastive": 128}),
    (
        "tb_resnet32", 190, CIFAR,
        {"heads": tuple(Head(f"linear{i}", "linear", 64, 10) for i in (1, 2))},
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "keys", "base", "changes"), NETWORKS, ids=lambda v: v if isinstance(v, str) else ""
)
def test_inferred_from_its_own_keys(name, keys, base, changes):
    spec = dataclasses.replace(base, **changes)
    with torch.device("meta"):
        state = ResNet(spec).state_dict()
    assert (spec.name, len(state)) == (name, keys)
    assert infer_spec(state, "linear", None).spec == spec


@pytest.mark.parametrize("norm", ["linear", "cosine", "lr_cosine", "norm", "inv"])
def test_head_from_its_keys(norm):
    spec = dataclasses.replace(BASE, heads=(Head("fc", norm, 2048, 10),))
    with torch.device("meta"):
        state = ResNet(spec).state_dict()
    assert infer_spec(state, norm, None).spec == spec
    assumed = infer_spec(state, None, None)
    assert assumed.spec.heads[0].norm == ("linear" if norm == "inv" else norm)
    assert any("inv" in notice for notice in assumed.notices) == (norm in ("linear", "inv"))


def test_arguments_do_not_overrule_keys_but_options_that_contradict_are_refused():
    state = ResNet(CIFAR).state_dict()
    assert infer_spec(state, "cosine", None).spec.heads[0].norm == "linear"
    with pytest.raises(InputError, match="cosine"):
        infer_spec(state, "cosine", None, given_norm=True)


def test_no_head_is_mmdets_backbone_with_its_floor():
    spec = dataclasses.replace(BASE, gate="se", heads=(), unit_floor="clamp 1e-4", **LEARNED)
    with torch.device("meta"):
        state = ResNet(spec).state_dict()
    found = infer_spec(state, None, None).spec
    assert found == spec
    assert found.output_names == ("stage1", "stage2", "stage3", "stage4")
    assert infer_spec(state, None, "relu+1e-8").spec.unit_floor == "relu+1e-8"


def test_misspelt_key_is_named_with_its_nearest_match():
    state = ResNet(CIFAR).state_dict()
    state["layer2.3.bn2.wieght"] = state.pop("layer2.3.bn2.weight")
    with pytest.raises(KeysError, match=r"wieght \(nearest: layer2\.3\.bn2\.weight\)") as caught:
        network_of(state, classif_norm=None, given_norm=False, floor=None)
    assert caught.value.missing == ["layer2.3.bn2.weight"]


def test_shape_mismatch_names_both_shapes():
    state = ResNet(CIFAR).state_dict()
    state["layer3.4.bn2.bias"] = torch.zeros(7)
    with pytest.raises(KeysError, match=r"\[7\], wanted float32\[64\]"):
        network_of(state, classif_norm=None, given_norm=False, floor=None)


STRANGERS = [
    ("a transformer", {"embed.weight": torch.zeros(4, 4)}),
    ("a 5x5 stem", {"conv1.weight": torch.zeros(8, 3, 5, 5), "layer1.0.conv1.weight": torch.zeros(8, 8, 3, 3)}),
    ("a stage left out", {
        "conv1.weight": torch.zeros(64, 3, 7, 7), "layer1.0.conv1.weight": torch.zeros(64, 64, 3, 3),
        "layer3.0.conv1.weight": torch.zeros(64, 64, 3, 3)}),
    ("a stem", {"conv1.weight": torch.zeros(64, 3, 7, 7), "layer1.0.conv1.weight": torch.zeros(64, 64, 1, 1)}),
]  # fmt: skip


@pytest.mark.parametrize("state", [c[1] for c in STRANGERS], ids=[c[0] for c in STRANGERS])
def test_strangers_are_told_about_the_factory(state):
    with pytest.raises(ArchitectureError, match="--model"):
        infer_spec(state, None, None)
