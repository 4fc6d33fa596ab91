import pytest

from coupon_service import topology
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
    monkeypatch.setenv("COUPON_METRICS_COUPONS", "0")
    monkeypatch.setenv("COUPON_CONSUMER", "worker.1")
    assert from_environment() == Config(
        redis_url="redis://elsewhere:1/2", key_prefix="{0}:", redis_timeout=0.25,
        redis_verify=False, worker_batch=7, claim_idle_ms=70, consumer="worker.1",
        metrics_coupons=0,
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
        ("COUPON_METRICS_COUPONS", "-1"), ("COUPON_METRICS_COUPONS", "10001"),
        ("COUPON_CLAIM_IDLE_MS", "-1"), ("COUPON_RETENTION", "1e17"),
        ("COUPON_REDIS_CONNECTIONS", "2"), ("COUPON_REDIS_CONNECTIONS", "1000000000"),
        ("COUPON_REDIS_TIMEOUT", "1e300"), ("COUPON_CLAIM_IDLE_MS", "99999999999999999999"),
        ("COUPON_PARTITIONS", "0"), ("COUPON_REPLICAS", "-1"), ("COUPON_REPLICAS_TIMEOUT", "0"),
        ("COUPON_WORKER_PARTITIONS", "1"), ("COUPON_WORKER_PARTITIONS", "x"),
        ("COUPON_REDIS_VERIFY", "perhaps"),
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
            "redis://localhost/0?nonsense=1", "redis://localhost/0?db=x",
            "rediss://localhost/0?ssl_cert_reqs=foo", "redis://localhost/0?protocol=9",
            "redis+sentinel://h:1,h:2", "redis+sentinel://h:1/name/x", "redis+cluster://h:1/0",
            "redis+cluster://", "redis+cluster://h:x", "redis+proxy://h"],
)
def test_url_that_cannot_be_understood_is_told_at_once(url):
    with pytest.raises(ConfigError, match="^REDIS_URL must be like redis://"):
        connect(Config(redis_url=url))


@pytest.mark.parametrize("url", ["redis://h", "redis://h:1/2", "redis://:p%2Fw@h/", "unix:///a/b",
                                 "rediss://u:p@h:1", "redis://h/0?health_check_interval=10",
                                 "redis+sentinel://u:p%2Fw@h:1,h:2/name/3?socket_keepalive=1",
                                 "rediss+sentinel://h,[::1]/name", "redis+cluster://:p@h,i:7",
                                 "rediss+cluster://[::1]:7,h/"])
def test_url_that_can_be_understood_sends_nothing(url):
    connect(Config(redis_url=url))


@pytest.mark.parametrize(
    "given", ["https://shop.example/", "shop.example", "https://*.example.com", "https://",
              "https://a.example https://b.example", "null", "https://Shop.example",
              "https://shop.example:443", "http://shop.example:80"],
)
def test_what_is_no_origin_is_refused(monkeypatch, given):
    monkeypatch.setenv("COUPON_CORS_ORIGINS", given)
    with pytest.raises(ConfigError, match="^COUPON_CORS_ORIGINS: .* is no origin"):
        from_environment()


def test_origins_may_have_blanks_around_them(monkeypatch):
    monkeypatch.setenv("COUPON_CORS_ORIGINS", " https://a.example , http://localhost:3000,, ")
    assert from_environment().cors_origins == ["https://a.example", "http://localhost:3000"]


def test_topology_is_read_from_the_url():
    assert topology.parse("redis://h:1/2") is None
    assert topology.parse("rediss+sentinel://u:p@h:1,[::1],i/name/3?a=b") == (
        "sentinel", [("h", 1), ("::1", 26379), ("i", 26379)], "name", "rediss://u:p@h:1/3?a=b",
    )
    assert topology.parse("redis+cluster://h,i:7") == (
        "cluster", [("h", 6379), ("i", 7)], "", "redis://h/",
    )


def test_cluster_has_16_partitions_unless_another_number_is_set(monkeypatch):
    monkeypatch.setenv("REDIS_URL", "redis+cluster://h:1")
    assert from_environment().partitions == 16
    assert from_environment().prefix(3) == "{3}:"
    monkeypatch.setenv("COUPON_PARTITIONS", "1")
    assert from_environment().prefix(0) == "{0}:"
    monkeypatch.setenv("REDIS_URL", "redis://h:1")
    monkeypatch.setenv("COUPON_KEY_PREFIX", "shop:")
    assert from_environment().prefix(0) == "shop:"
    monkeypatch.setenv("COUPON_PARTITIONS", "2")
    assert from_environment().prefix(1) == "shop:{1}:"
    monkeypatch.setenv("COUPON_KEY_PREFIX", "{shop}:")
    with pytest.raises(ConfigError, match="^COUPON_KEY_PREFIX"):
        from_environment()


def test_worker_serves_the_partitions_that_are_named(monkeypatch):
    monkeypatch.setenv("COUPON_PARTITIONS", "16")
    assert from_environment().worker_partitions == ()
    monkeypatch.setenv("COUPON_WORKER_PARTITIONS", "0-2, 7,15")
    assert from_environment().worker_partitions == (0, 1, 2, 7, 15)
    for wrong in ("16", "5-3", "0-16", "-1", "1;2"):
        monkeypatch.setenv("COUPON_WORKER_PARTITIONS", wrong)
        with pytest.raises(ConfigError, match="^COUPON_WORKER_PARTITIONS"):
            from_environment()


def test_replicas_are_waited_for_less_long_than_the_reply(monkeypatch):
    monkeypatch.setenv("COUPON_REPLICAS", "1")
    monkeypatch.setenv("COUPON_REPLICAS_TIMEOUT", "0.8")
    with pytest.raises(ConfigError, match="^COUPON_REPLICAS_TIMEOUT"):
        from_environment()
