"""What a CI of your own checks at every change:  pytest examples/ci

Replace the fixture by your checkpoint, your exported file and some of your own samples. Keep samples and limits in
the repository, so that a change of either is seen in a review.
"""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """(weights, exported file), in a folder of their own."""
    from own_network import exported

    folder = tmp_path_factory.mktemp("models")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return folder / "own.pth", folder / exported()


def test_the_file_is_the_trained_network(files, assert_parity):
    """`assert_parity` is a fixture of apa-deploy; every figure goes to parity.json in the test's folder."""
    from own_network import digits, network
    from torch import load

    trained = network()
    trained.load_state_dict(load(files[0], weights_only=True))
    assert_parity(trained.eval(), files[1], inputs=digits()[0], min_agreement=1.0)


def test_the_deployed_file_is_accurate(files):
    """Parity says that the file is the network; this says that the network is good."""
    from own_network import digits

    import apa_deploy

    images, labels = digits()
    with apa_deploy.Session(files[1]) as session:
        assert (session.run({"input": images[-100:]})["logits"].argmax(1) == labels[-100:]).mean() > 0.9
