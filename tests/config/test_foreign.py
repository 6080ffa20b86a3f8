"""Variables that other programs make of the name of a service are passed over; mistakes in ours are told."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.config.foreign import is_foreign
from broker.config.keys import Key, read_schema
from broker.config.load import load_settings
from broker.config.settings import Settings
from broker.errors import ConfigurationError

SCHEMA = read_schema(Settings)
KEYS = list(SCHEMA.known_keys())

SERVICES = st.from_regex(r"(_[A-Z][A-Z0-9_]{0,12}[A-Z0-9])?", fullmatch=True)


def of_kubernetes(service: str) -> dict[str, str]:
    """The variables that a kubelet sets for a service named greenroom, or one whose name begins so (kubernetes.io, Services)."""
    name = f"GREENROOM{service}"
    return {
        f"{name}_SERVICE_HOST": "10.0.0.11",
        f"{name}_SERVICE_PORT": "6379",
        f"{name}_SERVICE_PORT_HTTP": "80",
        f"{name}_PORT": "tcp://10.0.0.11:6379",
        f"{name}_PORT_6379_TCP": "tcp://10.0.0.11:6379",
        f"{name}_PORT_6379_TCP_PROTO": "tcp",
        f"{name}_PORT_6379_TCP_PORT": "6379",
        f"{name}_PORT_6379_TCP_ADDR": "10.0.0.11",
        f"{name}_PORT_53_UDP": "udp://10.0.0.11:53",
    }


def of_docker() -> dict[str, str]:
    """The variables of a link named greenroom (docs.docker.com, Legacy container links)."""
    return {
        "GREENROOM_NAME": "/web/greenroom",
        "GREENROOM_ENV_GREENROOM_SECRET": "hunter2",
        "GREENROOM_ENV_PATH": "/bin",
        "GREENROOM_1_PORT": "tcp://172.17.0.5:8000",
        "GREENROOM_1_ENV_PATH": "/bin",
        "GREENROOM_PORT_8000_TCP_START": "tcp://172.17.0.5:8000",
    }


def told(environ: dict[str, str]) -> list[str]:
    try:
        load_settings(file=None, environ=environ, flags={})
    except ConfigurationError as error:
        return str(error).splitlines()
    return []


@given(SERVICES)
def test_a_service_of_that_name_changes_nothing(service: str) -> None:
    assert load_settings(file=None, environ=of_kubernetes(service), flags={}).settings == Settings()


def test_a_link_of_that_name_changes_nothing() -> None:
    assert load_settings(file=None, environ=of_docker(), flags={}).settings == Settings()


@pytest.mark.parametrize(
    "variable",
    [
        "VERSION",
        "IMAGE",
        "HOME",
        "UID",
        "DEBUG",
        "REPLICAS",
        "DOCKER_TAG",
        "DB_PASSWORD",
        "POSTGRES_PASSWORD",
        "DB_PASSWORD_FILE",
        "GIT_SHA",
        "NAMESPACE",
    ],
)
def test_what_a_chart_or_image_calls_its_own_is_passed_over(variable: str) -> None:
    assert told({f"GREENROOM_{variable}": "x"}) == []


def mistakes(name: str) -> list[str]:
    """Names that a slip of the hand makes of one: a character left out, doubled, or two of them swapped."""
    return [
        *(name[:i] + name[i + 1 :] for i in range(len(name))),
        *(name[:i] + name[i] + name[i:] for i in range(len(name))),
        *(name[:i] + name[i + 1] + name[i] + name[i + 2 :] for i in range(len(name) - 1)),
    ]


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.dotted)
def test_a_slip_in_one_of_ours_is_told_with_it(key: Key) -> None:
    known = {key.variable for key in KEYS} | {key.long_variable for key in KEYS}
    for name in {key.variable, key.long_variable}:
        rest = name.removeprefix("GREENROOM_")
        for mistake in {
            *mistakes(rest),
            rest.replace("__", "_"),
            rest.lower(),
            rest.partition("__")[2] or rest,
        }:
            variable = f"GREENROOM_{mistake}"
            if variable in known:
                continue
            assert not is_foreign(variable, "hunter2", SCHEMA), variable
    # Not S: auth.issuers is beside auth.issuer.
    slip = f"{key.variable}Z"
    [line] = told({slip: "hunter2"})
    assert line.startswith(f"{slip}: no such variable; the nearest known is GREENROOM_")
    assert "hunter2" not in line
