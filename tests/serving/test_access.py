"""Who may reach the server, and which address means what."""

import pytest

from apa_deploy.errors import InputError
from apa_deploy.serving.access import check_token, is_loopback, read_token
from apa_deploy.serving.errors import MethodError, NotFoundError, UnauthorizedError
from apa_deploy.serving.options import ServeOptions
from apa_deploy.serving.routes import Route, match_route

TOKEN = "0123456789abcdef"
HOSTS = [
    ("127.0.0.1", True),
    ("127.9.9.9", True),
    ("::1", True),
    ("[::1]", True),
    ("localhost", True),
    ("0.0.0.0", False),
    ("::", False),
    ("10.0.0.1", False),
    ("localhost.example", False),
    ("127.0.0.1.example", False),
    ("", False),
]


@pytest.mark.parametrize(("host", "loopback"), HOSTS)
def test_only_loopback_needs_no_protection(tmp_path, host, loopback):
    assert is_loopback(host) is loopback
    if loopback:
        ServeOptions(tmp_path, host=host)
    else:
        with pytest.raises(InputError, match="token"):
            ServeOptions(tmp_path, host=host)
    ServeOptions(tmp_path, host=host, token=TOKEN)
    ServeOptions(tmp_path, host=host, insecure=True)


HEADERS = [
    (f"Bearer {TOKEN}", True),
    (f"bearer {TOKEN}", True),
    (f"Bearer {TOKEN}x", False),
    (f"Bearer {TOKEN[:-1]}", False),
    (f"Basic {TOKEN}", False),
    (TOKEN, False),
    ("Bearer ", False),
    ("Bearer é", False),
    ("", False),
    (None, False),
]


@pytest.mark.parametrize(("header", "good"), HEADERS)
def test_the_token_is_held_against_the_header(header, good):
    if good:
        check_token(header, TOKEN)
    else:
        with pytest.raises(UnauthorizedError):
            check_token(header, TOKEN)
    check_token(header, None)


def test_where_the_token_comes_from(tmp_path):
    path = tmp_path / "token"
    path.write_text(TOKEN + "\n")
    assert read_token(path, "another-token-of-length") == TOKEN
    assert read_token(None, f" {TOKEN} ") == TOKEN
    assert read_token(None, None) is None


@pytest.mark.parametrize("text", ["", "short", "0123456789abcde\x00f", "0123456789abcdeé"])
def test_tokens_that_protect_nothing(tmp_path, text):
    path = tmp_path / "token"
    path.write_text(text)
    with pytest.raises(InputError):
        read_token(path, None)


OPTIONS = [
    {"instances": 0},
    {"queue": -1},
    {"max_batch": -1},
    {"request_timeout": 0},
    {"max_request": 0},
    {"drain_timeout": -1},
    {"threads": 0},
    {"threads": 1_000_000},
    {"instances": 1_000_000},
    {"batch_delay": 61.0},
    {"read_timeout": 1e10},
    {"write_timeout": 1e10},
    {"request_timeout": 1e300},
    {"drain_delay": 1e12},
    {"drain_timeout": 9e9},
    {"max_request": 1 << 31},
]


@pytest.mark.parametrize("settings", OPTIONS, ids=str)
def test_options_without_sense(tmp_path, settings):
    with pytest.raises(InputError, match=next(iter(settings)).replace("_", "-")):
        ServeOptions(tmp_path, **settings)


@pytest.mark.parametrize("pair", [("tls_cert",), ("tls_key",), ("tls_cert", "tls_key")])
def test_tls_files_must_be_there(tmp_path, pair):
    with pytest.raises(InputError):
        ServeOptions(tmp_path, **dict.fromkeys(pair, tmp_path / "none.pem"))


ROUTES = [
    ("GET", "/v2", Route("server_metadata")),
    ("GET", "/v2/", Route("server_metadata")),
    ("GET", "/v2/health/live", Route("live")),
    ("GET", "/v2/health/ready", Route("ready")),
    ("GET", "/v2/models/m", Route("model_metadata", "m")),
    ("GET", "/v2/models/m/versions/3", Route("model_metadata", "m", "3")),
    ("GET", "/v2/models/m/config", Route("model_config", "m")),
    ("GET", "/v2/models/m/versions/3/stats", Route("statistics", "m", "3")),
    ("GET", "/v2/models/stats", Route("statistics")),
    ("POST", "/v2/models/m/infer", Route("infer", "m")),
    ("POST", "/v2/models/m/versions/3/infer", Route("infer", "m", "3")),
    ("POST", "/v2/repository/index", Route("index")),
    ("POST", "/v2/repository/models/m/load", Route("load", "m")),
    ("POST", "/v2/repository/models/m/unload", Route("unload", "m")),
    ("GET", "/v2/models/m/infer", MethodError),
    ("POST", "/v2/models/m", MethodError),
    ("GET", "/v2/repository/models/m/load", MethodError),
    ("GET", "/", NotFoundError),
    ("GET", "/v1", NotFoundError),
    ("GET", "/v2/models", NotFoundError),
    ("GET", "/v2/models/", NotFoundError),
    ("GET", "/v2/models/m/versions", NotFoundError),
    ("GET", "/v2/models/m/versions//config", NotFoundError),
    ("POST", "/v2/models/m/infer/more", NotFoundError),
    ("POST", "/v2/models/../m/infer", NotFoundError),
    ("POST", "/v2/repository/models/a/b/load", NotFoundError),
]


@pytest.mark.parametrize(("method", "path", "wanted"), ROUTES, ids=[f"{m} {p}" for m, p, _ in ROUTES])
def test_routes(method, path, wanted):
    if isinstance(wanted, Route):
        assert match_route(method, path) == wanted
    else:
        with pytest.raises(wanted):
            match_route(method, path)
