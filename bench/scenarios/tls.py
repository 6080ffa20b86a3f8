"""`tls`: what TLS on the port costs, beside the same server without it."""

import datetime
import ipaddress
import secrets
import ssl
import tempfile
from contextlib import ExitStack
from pathlib import Path

import attrs
import click
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from bench import machine, process
from bench.load.client import Clients
from bench.load.plan import Crowd, make_targets
from bench.load.speaking import Speaking
from bench.servers import SERVERS
from bench.spec import Credentials, ServerSpec
from bench.usage import on_core

_CHAT = b'{"type":"chat","text":"%b"}'


@click.command()
@click.option("--connections", type=click.IntRange(2, 20_000), default=200, show_default=True)
@click.option("--rooms", type=click.IntRange(1, 10_000), default=20, show_default=True)
@click.option(
    "--messages", type=click.IntRange(1, 1_000_000), default=200, show_default=True, help="Of each room."
)
@click.option(
    "--message-bytes", type=click.IntRange(1, 500), default=64, show_default=True, help="Of the text."
)
@click.option(
    "--repeats", type=click.IntRange(1, 100), default=3, show_default=True, help="Of both, in turn."
)
@click.option("--pin/--no-pin", default=True, show_default=True, help="Give servers and clients a core each.")
def tls(*, connections: int, rooms: int, messages: int, message_bytes: int, repeats: int, pin: bool) -> None:
    """Count deliveries per server CPU-second with TLS and without.

    Both servers run at once, and are loaded in turn: a member of each room speaks, and goes on once all have heard
    it. The clients are Python's, so only the figures of the servers mean anything.
    """
    text = _CHAT % (b"x" * message_bytes)
    pins, crowd, credentials = machine.choose_pins(pin=pin), Crowd(connections, rooms, 1), Credentials.make()
    with ExitStack() as stack:
        stack.enter_context(on_core(pins.generator))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        loads: dict[str, Speaking] = {}
        for spec, context in _specs(folder, credentials):
            server = stack.enter_context(process.running(spec, core=pins.server))
            clients = stack.enter_context(Clients(process.HOST, server.port, tls=context))
            loads[spec.name] = load = Speaking(server, clients, [seat.room for seat in crowd.seats()])
            load.join(make_targets(crowd, secret=credentials.secret))
        ratios = []
        for repeat in range(repeats):
            figures = {name: load.run([text], messages) for name, load in loads.items()}
            plain, secured = figures.values()
            ratios.append(secured / plain)
            shown = ", ".join(f"{name} {figure:,.0f}" for name, figure in figures.items())
            click.echo(f"{repeat + 1}: deliveries per server CPU-second: {shown}; ratio {ratios[-1]:.2f}")
    click.echo(f"median ratio {sorted(ratios)[len(ratios) // 2]:.2f}")


def _specs(folder: Path, credentials: Credentials) -> list[tuple[ServerSpec, ssl.SSLContext | None]]:
    plain = SERVERS["greenroom"](credentials)
    certificate, key = _make_pair(folder)
    files = {
        "GREENROOM_SERVER__TLS_CERT_FILE": str(certificate),
        "GREENROOM_SERVER__TLS_KEY_FILE": str(key),
    }
    secured = attrs.evolve(
        plain, name="greenroom_tls", environment={**plain.environment, **files}, ready_path=None
    )
    return [(plain, None), (secured, ssl.create_default_context(cafile=certificate))]


def _make_pair(folder: Path) -> tuple[Path, Path]:
    """Write a certificate that signs itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"bench {secrets.token_hex(4)}")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=2))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(process.HOST))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    certificate_file, key_file = folder / "bench.crt", folder / "bench.key"
    certificate_file.write_bytes(certificate.public_bytes(Encoding.PEM))
    key_file.touch(mode=0o600)
    key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return certificate_file, key_file
