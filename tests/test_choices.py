"""The names that parsers offer are those that the code knows."""

import pytest

from apa_deploy import choices
from apa_deploy.deployment.iif import VARIANTS
from apa_deploy.deployment.pixels import RECIPES
from apa_deploy.replace import FLOORS


@pytest.mark.parametrize(
    ("offered", "known"),
    [(choices.IIF_VARIANTS, VARIANTS), (choices.PREPROCESSINGS, RECIPES), (choices.FLOORS, FLOORS)],
    ids=["iif", "preprocess", "floor"],
)
def test_offered_names_are_known(offered, known):
    assert offered == tuple(known)
