"""Every way in which a certificate, its key and the clients' authorities cannot be used is told in one line."""

import datetime
import shutil
from collections.abc import Callable
from pathlib import Path

import attrs
import msgspec
import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric import ec

from broker.cli.config import command
from broker.config.settings import AuthSettings, HttpSettings, ServerSettings, Settings
from broker.errors import ConfigurationError
from broker.preflight import find_problems
from broker.transport.tls.credentials import load_credentials
from tests.certificates import HOUR, Authority, Pair, write_key
from tests.support.secrets import API_KEY, SECRET


@attrs.frozen
class Files:
    authority: Authority
    pair: Pair
    folder: Path

    def settings(self, **changed: object) -> ServerSettings:
        names = {
            "tls_cert_file": str(self.pair.certificate),
            "tls_key_file": str(self.pair.key),
            "tls_client_ca_file": str(self.authority.file),
        }
        return msgspec.convert({**names, **changed}, ServerSettings)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    authority = Authority(tmp_path)
    return Files(authority, authority.issue(), tmp_path)


def test_a_good_pair_is_loaded_with_its_expiry(files: Files) -> None:
    credentials = load_credentials(files.settings())
    assert credentials is not None
    assert credentials.warning(credentials.expires_at - 1) is None
    assert "expired at" in str(credentials.warning(credentials.expires_at + 1))
    assert "valid from" in str(credentials.warning(credentials.not_before - 1))
    assert load_credentials(ServerSettings()) is None


def no_file(path: Path, _files: Files) -> None:
    path.unlink()


def a_folder(path: Path, _files: Files) -> None:
    path.unlink()
    path.mkdir()


def empty(path: Path, _files: Files) -> None:
    path.write_bytes(b"")


def rubbish(path: Path, _files: Files) -> None:
    path.write_bytes(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n\xff")


def of_another(path: Path, files: Files) -> None:
    other = files.authority.issue("other")
    shutil.copyfile(other.key if path.suffix == ".key" else other.certificate, path)


def in_the_wrong_order(path: Path, files: Files) -> None:
    path.write_bytes(files.authority.file.read_bytes() + path.read_bytes())


def swapped(path: Path, files: Files) -> None:
    shutil.copyfile(files.pair.certificate if path == files.pair.key else files.pair.key, path)


def encrypted(path: Path, _files: Files) -> None:
    write_key(path, ec.generate_private_key(ec.SECP256R1()), password=b"secret")


def readable_by_all(path: Path, _files: Files) -> None:
    path.chmod(0o644)


def writable_by_all(path: Path, _files: Files) -> None:
    path.chmod(0o666)


CERTIFICATE, KEY, CLIENT_CA = "tls_cert_file", "tls_key_file", "tls_client_ca_file"


@pytest.mark.parametrize(
    ("setting", "spoil", "told_of", "why"),
    [
        (CERTIFICATE, no_file, CERTIFICATE, "cannot be read: No such file"),
        (CERTIFICATE, a_folder, CERTIFICATE, "cannot be read: Is a directory"),
        (CERTIFICATE, empty, CERTIFICATE, "must hold certificates in PEM form"),
        (CERTIFICATE, rubbish, CERTIFICATE, "must hold certificates in PEM form"),
        (CERTIFICATE, swapped, CERTIFICATE, "must hold certificates in PEM form"),
        (CERTIFICATE, of_another, KEY, "is not the key of the certificate in"),
        (CERTIFICATE, in_the_wrong_order, CERTIFICATE, "must begin with the server's own certificate"),
        (KEY, no_file, KEY, "cannot be read: No such file"),
        (KEY, a_folder, KEY, "is a folder"),
        (KEY, empty, KEY, "is empty"),
        (KEY, rubbish, KEY, "must be UTF-8"),
        (KEY, swapped, KEY, "must hold a private key in PEM form"),
        (KEY, of_another, KEY, "is not the key of the certificate in"),
        (KEY, encrypted, KEY, "is encrypted"),
        (KEY, readable_by_all, KEY, "is readable by every user (mode 0644): chmod 0400"),
        (KEY, writable_by_all, KEY, "is writable by every user (mode 0666): chmod 0400"),
        (CLIENT_CA, no_file, CLIENT_CA, "cannot be read: No such file"),
        (CLIENT_CA, rubbish, CLIENT_CA, "must hold certificates in PEM form"),
    ],
)
def test_what_is_wrong_is_told_in_one_line_with_the_setting(
    files: Files, setting: str, spoil: Callable[[Path, Files], None], told_of: str, why: str
) -> None:
    server = files.settings()
    spoil(Path(getattr(server, setting)), files)
    with pytest.raises(ConfigurationError) as refused:
        load_credentials(server)
    message = str(refused.value)
    assert message.startswith(f"server.{told_of}: ")
    assert why in message
    assert "\n" not in message
    assert "BEGIN" not in message
    settings = Settings(server=server, auth=AuthSettings(secret=SECRET), http=HttpSettings(api_key=API_KEY))
    (problem,) = find_problems(settings, dev=False)
    assert f"server.{told_of}" in problem.place


@pytest.mark.parametrize(
    ("left_out", "told_of"),
    [
        ([KEY], [KEY]),
        ([CERTIFICATE], [CERTIFICATE, CLIENT_CA]),
        ([CERTIFICATE, KEY], [CLIENT_CA]),
        ([CLIENT_CA], []),
        ([CERTIFICATE, KEY, CLIENT_CA], []),
    ],
)
def test_half_of_a_pair_is_none(files: Files, left_out: list[str], told_of: list[str]) -> None:
    server = files.settings(**dict.fromkeys(left_out))
    settings = Settings(server=server, auth=AuthSettings(secret=SECRET), http=HttpSettings(api_key=API_KEY))
    assert [problem.place for problem in find_problems(settings, dev=False)] == [
        f"server.{name}" for name in told_of
    ]


@pytest.mark.parametrize("lifetime", [HOUR, -HOUR])
def test_config_check_warns_of_an_expired_certificate(
    files: Files, lifetime: datetime.timedelta, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = files.authority.issue("dated", lifetime=lifetime)
    monkeypatch.setenv("GREENROOM_SECRET", SECRET)
    monkeypatch.setenv("GREENROOM_API_KEY", API_KEY)
    file = files.folder / "greenroom.toml"
    file.write_text(
        f'[server]\ntls_cert_file = "{pair.certificate}"\ntls_key_file = "{pair.key}"\n', encoding="utf-8"
    )
    result = CliRunner().invoke(command, ["check", str(file)])
    assert result.exit_code == 0, result.output
    assert ("warning: server.tls_cert_file: the certificate expired at" in result.output) is (lifetime < HOUR)
