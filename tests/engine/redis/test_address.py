"""The forms of a redis:// URL."""

import pytest

from broker.engine.redis.client.address import Address, RedisUrl, parse_redis_url
from broker.errors import ConfigurationError


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://a", RedisUrl((Address("a"),))),
        ("redis://a:7000/3", RedisUrl((Address("a", 7000),), database=3)),
        ("rediss://a/", RedisUrl((Address("a"),), is_tls=True)),
        ("redis://a:1,b,c:3/0", RedisUrl((Address("a", 1), Address("b"), Address("c", 3)))),
        ("redis://:p%40ss@a", RedisUrl((Address("a"),), password="p@ss")),
        ("redis://ann:p:w@a,b", RedisUrl((Address("a"), Address("b")), user="ann", password="p:w")),
        ("redis://[::1]:7000,[fe80::2]", RedisUrl((Address("::1", 7000), Address("fe80::2")))),
    ],
)
def test_a_url_names_servers_login_and_database(url: str, expected: RedisUrl) -> None:
    assert parse_redis_url(url) == expected


@pytest.mark.parametrize(
    "url",
    [
        *(
            "redis://",
            "redis://a,,b",
            "redis://a:x",
            "redis://a:0",
            "redis://a:65536",
            "redis://a/x",
            "redis://a/-1",
        ),
        *(
            "redis://ann@a",
            "redis://:hunter2@",
            "redis://:hunter2@a:x",
            "redis://:hunter2@a/x",
            "redis://a,a",
        ),
        *("redis://:hunter2@a,a:6379", "redis://a/0?x=y"),
    ],
)
def test_other_urls_are_refused_without_telling_the_password(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^server\.engine: ") as caught:
        parse_redis_url(url)
    assert "hunter2" not in str(caught.value)


def test_a_password_is_in_no_representation() -> None:
    assert "hunter2" not in repr(parse_redis_url("redis://:hunter2@a"))


def test_an_address_reads_as_in_a_url() -> None:
    assert [str(Address("a")), str(Address("::1", 1))] == ["a:6379", "[::1]:1"]


def test_the_password_may_stand_beside_the_url() -> None:
    plain = parse_redis_url("redis://a,b/1", password="p@ss%41")
    assert (plain.user, plain.password) == (None, "p@ss%41")
    named = parse_redis_url("rediss://ann@a", password="hunter2")
    assert (named.user, named.password, named.addresses) == ("ann", "hunter2", (Address("a"),))
    for url in ("redis://:own@a", "redis://ann:own@a"):
        with pytest.raises(ConfigurationError, match="keep one of them") as caught:
            parse_redis_url(url, password="hunter2")
        assert "own@" not in str(caught.value)
        assert "hunter2" not in str(caught.value)
