from tests.standin.machine import machine  # noqa: F401 - a fixture
