import pytest

from coupon_service.config import Config, from_environment
from coupon_service.connection import connect
from coupon_service.errors import ConfigError


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch, tmp_path):
    for name in ("REDIS_URL", "COUPON_KEY_PREFIX", "COUPON_REDIS_TIMEOUT", "COUPON_PARTITIONS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def test_defaults_hold_where_nothing_is_set():
    assert from_environment() == Config()


def test_environment_is_read(monkeypatch):
    monkeypatch.setenv("REDIS_URL", "redis://elsewhere:1/2")
    monkeypatch.setenv("COUPON_KEY_PREFIX", "{0}:")
    monkeypatch.setenv("COUPON_REDIS_TIMEOUT", "0.25")
    monkeypatch.setenv("COUPON_REDIS_VERIFY", "false")
    monkeypatch.setenv("COUPON_WORKER_BATCH", "7")
    monkeypatch.setenv("COUPON_CLAIM_IDLE_MS", "70")
    monkeypatch.setenv("COUPON_CONSUMER", "worker.1")
    assert from_environment() == Config(
        redis_url="redis://elsewhere:1/2", key_prefix="{0}:", redis_timeout=0.25,
        redis_verify=False, worker_batch=7, claim_idle_ms=70, consumer="worker.1",
    )


def test_empty_redis_url_is_as_good_as_none(monkeypatch):
    monkeypatch.setenv("REDIS_URL", "")
    assert from_environment().redis_url == Config.redis_url


def test_dotenv_file_of_the_current_folder_is_read_and_the_environment_goes_first(
    monkeypatch, tmp_path
):
    (tmp_path / ".env").write_text("COUPON_KEY_PREFIX=file:\nCOUPON_WORKER_BATCH=9\n")
    monkeypatch.setenv("COUPON_KEY_PREFIX", "environment:")
    monkeypatch.setenv("COUPON_WORKER_BATCH", "")  # restored afterwards, whatever the file sets
    monkeypatch.delenv("COUPON_WORKER_BATCH")
    config = from_environment()
    assert (config.key_prefix, config.worker_batch) == ("environment:", 9)


@pytest.mark.parametrize(
    "name, value",
    [
        ("COUPON_REDIS_TIMEOUT", "soon"), ("COUPON_REDIS_TIMEOUT", "0"),
        ("COUPON_WORKER_BATCH", "0"), ("COUPON_WORKER_BATCH", "many"),
        ("COUPON_CLAIM_IDLE_MS", "-1"), ("COUPON_RETENTION", "1e17"),
        ("COUPON_REDIS_CONNECTIONS", "1"), ("COUPON_REDIS_VERIFY", "perhaps"),
    ],
)
def test_bad_setting_is_an_error_that_names_it(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=name):
        from_environment()


def test_certificates_are_checked_unless_told_otherwise():
    def checks(url, **options):
        client = connect(Config(redis_url=url, **options), 1, 0)
        return client.connection_pool.connection_kwargs.get("ssl_cert_reqs")

    assert checks("rediss://h/0") in (None, "required")
    assert checks("rediss://h/0", redis_verify=False) == "none"
    assert checks("redis://h/0", redis_verify=False) is None


@pytest.mark.parametrize(
    "url", ["localhost:6379", "http://localhost", "redis://localhost:6379/x", "redis://h:port/0",
            "redis://localhost/0?nonsense=1", "redis://localhost/0?db=x"],
)
def test_url_that_cannot_be_understood_is_told_at_once(url):
    with pytest.raises(ConfigError, match="^REDIS_URL must be like redis://"):
        connect(Config(redis_url=url))


@pytest.mark.parametrize("url", ["redis://h", "redis://h:1/2", "redis://:p%2Fw@h/", "unix:///a/b",
                                 "rediss://u:p@h:1", "redis://h/0?health_check_interval=10"])
def test_url_that_can_be_understood_sends_nothing(url):
    connect(Config(redis_url=url))


@pytest.mark.parametrize(
    "given", ["https://shop.example/", "shop.example", "https://*.example.com", "https://",
              "https://a.example https://b.example", "null"],
)
def test_what_is_no_origin_is_refused(monkeypatch, given):
    monkeypatch.setenv("COUPON_CORS_ORIGINS", given)
    with pytest.raises(ConfigError, match="^COUPON_CORS_ORIGINS: .* is no origin"):
        from_environment()


def test_origins_may_have_blanks_around_them(monkeypatch):
    monkeypatch.setenv("COUPON_CORS_ORIGINS", " https://a.example , http://localhost:3000,, ")
    assert from_environment().cors_origins == ["https://a.example", "http://localhost:3000"]
