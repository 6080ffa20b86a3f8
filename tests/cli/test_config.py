"""`greenroom config`: what a server would say of a file, and what it would run with."""

import socket
import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from broker.cli import main
from tests.support.secrets import API_KEY, SECRET

SECRETS = {
    "GREENROOM_SECRET": SECRET,
    "GREENROOM_API_KEY": API_KEY,
    "GREENROOM_CONFIG": None,
}


def config(*arguments: str, env: Mapping[str, str | None] = SECRETS) -> Result:
    return CliRunner(env=env).invoke(main, ["config", *arguments])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "greenroom.toml"


def test_a_good_file_is_called_good(file: Path) -> None:
    file.write_text("[server]\nport = 9000\n")
    result = config("check", str(file))
    assert (result.exit_code, result.stdout, result.stderr) == (0, f"{file}: good\n", "")


def test_a_bad_file_is_refused_with_each_line_that_is_wrong(file: Path) -> None:
    file.write_text("[server]\nport = 70000\nprot = 1\n")
    result = config("check", str(file))
    assert (result.exit_code, result.stdout) == (2, "")
    first, second = result.stderr.splitlines()
    assert first == f"greenroom: {file}:2: server.port: must be a whole number from 0 to 65535, not 70000"
    assert second.startswith(
        f"greenroom: {file}:3: server.prot: no such key; the nearest known is server.port"
    )


def test_what_does_not_go_together_is_refused_too(file: Path) -> None:
    file.write_text("[server]\nengine = 'tape://'\n")
    result = config("check", str(file))
    assert result.exit_code == 2
    assert result.stderr.startswith(f"greenroom: {file}:2: server.engine: must begin with one of ")
    assert result.stderr.endswith("; got tape://\n")


@pytest.mark.parametrize("host", ["a..b", "127.0.0.1,localhost", "no host", "192.0.2.1", "nowhere.invalid"])
def test_a_host_that_nothing_can_listen_on_is_refused_as_by_a_start(file: Path, host: str) -> None:
    file.write_text(f"[server]\nhost = '{host}'\nport = 0\n")
    refused = config("check", str(file))
    assert (refused.exit_code, refused.stdout) == (2, "")
    prefix = f"greenroom: {file}:2: server.host: "
    assert refused.stderr.startswith(f"{prefix}cannot serve on {host}: ")
    started = CliRunner(env=SECRETS).invoke(main, ["serve", "--config", str(file)])
    assert started.exit_code == 1
    reason = refused.stderr.removeprefix(f"{prefix}cannot serve on {host}: ")
    assert started.stderr.splitlines()[-1] == f"greenroom: cannot serve on {host}:0: {reason.strip()}"


def test_a_port_that_the_running_server_has_is_no_problem(file: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as running:
        file.write_text(f"[server]\nport = {running.getsockname()[1]}\n")
        assert config("check", str(file)).exit_code == 0


def test_missing_secrets_are_refused_unless_for_dev(file: Path) -> None:
    file.write_text("")
    missing = {"GREENROOM_SECRET": None, "GREENROOM_API_KEY": None}
    result = config("check", str(file), env=missing)
    assert result.exit_code == 2
    assert "GREENROOM_SECRET" in result.stderr
    assert "GREENROOM_API_KEY" in result.stderr
    assert config("check", "--dev", str(file), env=missing).exit_code == 0


def test_show_tells_every_value_with_its_origin(file: Path) -> None:
    file.write_text("[server]\nport = 9000\n")
    for result in (
        config("show", "--config", str(file)),
        config("show", env={**SECRETS, "GREENROOM_CONFIG": str(file)}),
    ):
        assert result.exit_code == 0
        assert f"port = 9000  # {file}:2\n" in result.stdout
        assert '# secret = "***"  # set, not shown; GREENROOM_SECRET\n' in result.stdout
        assert SECRETS["GREENROOM_SECRET"] not in result.stdout
        assert tomllib.loads(result.stdout)["server"]["port"] == 9000


def test_show_shows_nothing_of_a_bad_configuration() -> None:
    result = config("show", env={**SECRETS, "GREENROOM_LOG__LEVEL": "loud"})
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("greenroom: GREENROOM_LOG__LEVEL: log.level: must be one of ")
