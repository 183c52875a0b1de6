from tests.exporters.trt_bundles import bundle  # noqa: F401 - a fixture
from tests.standin.machine import machine  # noqa: F401 - a fixture
