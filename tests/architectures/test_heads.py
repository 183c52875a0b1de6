"""apa_deploy.architectures.heads: each classifier against upstream's."""

import numpy as np
import pytest
import torch

from apa_deploy.architectures.heads import classifier
from apa_deploy.architectures.spec import Head
from apa_deploy.choices import NORMS
from tests.conftest import make_checkpoint


@pytest.mark.parametrize("norm", NORMS)
def test_head(norm, golden_arrays):
    data = golden_arrays["heads"]
    head = classifier(Head("fc", norm, features=64, classes=10))
    state = {k: make_checkpoint.fill(f"head.{norm}.{k}", v.shape) for k, v in head.state_dict().items()}
    head.load_state_dict({k: torch.from_numpy(np.asarray(v, dtype=np.float32)) for k, v in state.items()})
    with torch.inference_mode():
        got = head.double()(torch.from_numpy(data["x"]).double()).numpy()
    wanted = data[f"{norm}_f64"]
    assert np.abs(got - wanted).max() <= 1e-12 * np.abs(wanted).max()


def test_cosine_of_zero_features_is_zero():
    """Upstream divides 0 by 0 there and answers NaN."""
    head = classifier(Head("fc", "cosine", 4, 3))
    torch.nn.init.ones_(head.weight)
    assert head(torch.zeros(1, 4)).tolist() == [[0.0, 0.0, 0.0]]
