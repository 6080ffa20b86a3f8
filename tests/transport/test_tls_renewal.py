"""A renewed certificate is taken while the server runs; one that cannot be used changes nothing, and is told once."""

import ssl
from pathlib import Path

import attrs
import msgspec
import pytest
import trio
from cryptography import x509
from trio.testing import MockClock, wait_all_tasks_blocked

from broker.config.reload import plan_reload
from broker.config.settings import ServerSettings, Settings
from broker.errors import ConfigurationError
from broker.transport.tls.credentials import load_credentials
from broker.transport.tls.port_tls import POLL_SECONDS, PortTls
from tests.certificates import Authority, Pair
from tests.support.logs import RecordingLog
from tests.transport.wires import TlsClient, memory_pair


@attrs.frozen
class Running:
    authority: Authority
    pair: Pair
    server: ServerSettings
    tls: PortTls
    log: RecordingLog

    @property
    def levels(self) -> list[str]:
        return [f"{line.level}: {line.event}" for line in self.log.lines]

    def renew(self, name: str = "renewed") -> None:
        pair = self.authority.issue(name)
        pair.key.replace(self.pair.key)
        pair.certificate.replace(self.pair.certificate)

    async def subject(self) -> str:
        """Return the name in the certificate that a new connection is shown."""
        client, server = memory_pair()
        peer = TlsClient.over(client, self.authority.client_context())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.tls.shake_hands, server)
            await peer.shake_hands()
        shown = peer.tls.getpeercert(binary_form=True)
        assert shown is not None
        (name,) = x509.load_der_x509_certificate(shown).subject
        return str(name.value)


@pytest.fixture
async def running(tmp_path: Path) -> Running:
    authority = Authority(tmp_path)
    pair = authority.issue("first")
    server = ServerSettings(tls_cert_file=str(pair.certificate), tls_key_file=str(pair.key))
    log = RecordingLog()
    credentials = load_credentials(server)
    assert credentials is not None
    tls = PortTls(server, credentials, log, lambda: credentials.not_before + 1)
    await tls.look()
    return Running(authority, pair, server, tls, log)


LOADED, NOT_RENEWED = "info: certificate loaded", "error: certificate not renewed"


async def test_a_renewed_pair_is_taken_for_new_connections(running: Running) -> None:
    client, server = memory_pair()
    before = TlsClient.over(client, running.authority.client_context())
    secured = []

    async def accept() -> None:
        secured.append(await running.tls.shake_hands(server))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept)
        await before.shake_hands()
    assert await running.subject() == "first"
    await running.tls.look()
    assert running.levels == [LOADED]
    running.renew()
    await running.tls.look()
    assert await running.subject() == "renewed"
    assert running.levels == [LOADED, LOADED]
    assert "expires_at" in running.log.lines[-1].fields
    # The connection from before goes on.
    await before.send_all(b"still here")
    assert await secured[0].receive_some() == b"still here"


async def test_half_of_a_renewal_keeps_the_old_pair_until_the_other_half_comes(running: Running) -> None:
    new = running.authority.issue("renewed")
    new.certificate.replace(running.pair.certificate)
    for _ in range(3):
        await running.tls.look()
    assert running.levels == [LOADED, NOT_RENEWED]
    assert "is not the key" in str(running.log.lines[-1].fields["problem"])
    assert await running.subject() == "first"
    new.key.replace(running.pair.key)
    for _ in range(3):
        await running.tls.look()
    assert running.levels == [LOADED, NOT_RENEWED, LOADED]
    assert await running.subject() == "renewed"


async def test_each_bad_pair_is_told_once(running: Running) -> None:
    for number in range(1, 4):
        running.pair.certificate.write_text(f"bad {number}" * number)
        for _ in range(3):
            await running.tls.look()
        assert running.levels == [LOADED, *([NOT_RENEWED] * number)]
    running.pair.certificate.unlink()
    for _ in range(3):
        await running.tls.look()
    assert running.levels == [LOADED, *([NOT_RENEWED] * 4)]
    assert await running.subject() == "first"


async def test_a_link_to_other_files_is_a_change(running: Running, tmp_path: Path) -> None:
    """As certbot and Kubernetes renew."""
    live = tmp_path / "live"
    live.symlink_to(tmp_path)
    server = ServerSettings(tls_cert_file=str(live / "first.crt"), tls_key_file=str(live / "first.key"))
    running.tls.reload(server)
    await running.tls.look()
    assert running.levels == [LOADED, LOADED]
    other = tmp_path / "other"
    other.mkdir()
    for file in (running.pair.certificate, running.pair.key):
        (other / file.name).write_bytes(file.read_bytes())
        (other / file.name).chmod(0o600)
    live.unlink()
    live.symlink_to(other)
    await running.tls.look()
    assert running.levels == [LOADED, LOADED, LOADED]


async def test_the_files_are_looked_at_again_and_again(running: Running, mock_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(running.tls.run)
        for name in ("second", "third"):
            await wait_all_tasks_blocked()
            running.renew(name)
            # A thread looks, which no clock knows of; it may come between key and certificate, and look once more.
            while await running.subject() != name:
                await wait_all_tasks_blocked()
                mock_clock.jump(POLL_SECONDS)
        nursery.cancel_scope.cancel()


async def test_a_reload_takes_other_files_or_changes_nothing(running: Running) -> None:
    pair = running.authority.issue("other")
    server = ServerSettings(tls_cert_file=str(pair.certificate), tls_key_file=str(pair.key))
    running.tls.reload(server)
    assert await running.subject() == "other"
    for bad in (msgspec.structs.replace(server, tls_key_file=str(running.pair.key)), ServerSettings()):
        with pytest.raises(ConfigurationError, match=r"^server\.tls_"):
            running.tls.reload(bad)
    assert await running.subject() == "other"


async def test_an_expired_certificate_is_warned_of(running: Running) -> None:
    credentials = load_credentials(running.server)
    assert credentials is not None
    log = RecordingLog()
    PortTls(running.server, credentials, log, lambda: credentials.expires_at + 1)
    assert [line.level for line in log.lines] == ["warning"]
    assert "expired at" in str(log.lines[0].fields["reason"])


NAMES = {"tls_cert_file": "a.crt", "tls_key_file": "a.key", "tls_client_ca_file": "ca.crt"}


@pytest.mark.parametrize("name", NAMES)
def test_files_are_reloaded_but_tls_does_not_come_or_go(name: str) -> None:
    present = Settings(server=ServerSettings(**NAMES))
    other = Settings(server=ServerSettings(**{**NAMES, name: "b"}))
    gone = Settings(server=ServerSettings(**{**NAMES, name: None}))
    assert plan_reload(present, other).reloaded == (f"server.{name}",)
    for one, two in ((present, gone), (gone, present)):
        assert plan_reload(one, two).needs_restart == (f"server.{name}",)


async def test_a_context_speaks_tls_12_at_least(running: Running) -> None:
    credentials = load_credentials(running.server)
    assert credentials is not None
    assert credentials.context.minimum_version is ssl.TLSVersion.TLSv1_2
