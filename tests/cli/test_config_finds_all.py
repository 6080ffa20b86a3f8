"""`config check` says what a start says: the same lines, status 2, without a traceback and without a secret."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.secrets import API_KEY, SECRET

SAFETY_SECONDS = 120

Case = Callable[[Path], tuple[str, dict[str, str]]]


def variables(**values: str) -> Case:
    """Return a case without a word in the file."""
    return lambda _folder: ("", {f"GREENROOM_{name}": value for name, value in values.items()})


def text(toml: str) -> Case:
    return lambda folder: (toml.replace("FOLDER", str(folder)), {})


CASES: dict[str, Case] = {
    "secret with a line end": variables(SECRET=f"{SECRET}\n"),
    "secret in quotes": variables(SECRET=f'"{SECRET}"'),
    "secret with a blank": variables(SECRET=f" {SECRET}"),
    "no secret": variables(SECRET=""),
    "a short secret": variables(SECRET="hunter2hunter2"),
    "a public key for a secret": variables(SECRET=f"ssh-ed25519 {SECRET} ann@home"),
    "API key with a line end": variables(API_KEY=f"{API_KEY}\n"),
    "API key in quotes": variables(API_KEY=f"'{API_KEY}'"),
    "API key with a blank within": variables(API_KEY=f"{API_KEY} {API_KEY}x"),
    "API key beyond ASCII": variables(API_KEY=f"{API_KEY}ü"),
    "API key beyond UTF-8": variables(API_KEY=f"{API_KEY}\udcff"),
    "metrics key with a line end": variables(METRICS_KEY=f"{API_KEY}\n"),
    "empty metrics key": variables(METRICS_KEY=""),
    "a previous secret that can be guessed": variables(PREVIOUS_SECRET="hunter2hunter2"),
    "a previous secret that is a public key": variables(PREVIOUS_SECRET=f"ssh-ed25519 {SECRET} ann@home"),
    "a previous API key beyond ASCII": variables(PREVIOUS_API_KEY=f"{API_KEY}ü"),
    "a previous metrics key alone": variables(PREVIOUS_METRICS_KEY=API_KEY),
    "an API key with a scope that is none": text(
        f'[[http.api_keys]]\nname = "a"\nkey = "{API_KEY[::-1]}"\nscopes = ["write"]'
    ),
    "an API key from no file": text(
        '[[http.api_keys]]\nname = "a"\nkey_file = "FOLDER/none"\nscopes = ["read"]'
    ),
    "a hook whose secret is none": text(
        '[[hooks]]\non = ["join"]\nurl = "https://a.example"\nsecret = "hunter2"'
    ),
    "a webhook whose secret is none": text(
        '[[webhooks]]\nname = "a"\nurl = "https://a.example"\nsecret = "hunter2"'
    ),
    "a secret from no file": text('[auth]\nprevious_secret_file = "FOLDER/none"'),
    "a secret in the place of its file": variables(API_KEY="", API_KEY_FILE="hunter2/hunter2"),
    "an engine from an empty file": variables(SERVER__ENGINE_FILE="/dev/null"),
    "two passwords of Redis": variables(SERVER__ENGINE="redis://:hunter2@h", REDIS_PASSWORD="hunter2"),
    "empty audience": variables(AUTH__AUDIENCE=""),
    "empty issuer": text('[auth]\nissuer = ""'),
    "empty host": variables(SERVER__HOST=""),
    "a missing public key": text('[auth]\nalgorithms = ["ES256"]\npublic_key_file = "FOLDER/none.pem"'),
    "a missing key set": text('[auth]\nalgorithms = ["RS256"]\njwks_file = "FOLDER/none.json"'),
    "a folder for a public key": text('[auth]\nalgorithms = ["ES256"]\npublic_key_file = "FOLDER"'),
    "no key": text('[auth]\nalgorithms = ["ES256"]'),
    "no engine": variables(SERVER__ENGINE="memory"),
    "an engine with a password and a blank": variables(SERVER__ENGINE="redis://:hunter2@localhost/0 "),
    "an engine of another kind": variables(SERVER__ENGINE="hunter2:hunter2@x://localhost"),
    "a list for an engine": text('[server]\nengine = ["redis://:hunter2@localhost"]'),
    "Redis without a host": variables(SERVER__ENGINE="redis://:hunter2@"),
    "Redis with a port of words": variables(SERVER__ENGINE="redis://:hunter2@localhost:port"),
    "Redis with a port of NaN digits": variables(SERVER__ENGINE="redis://:hunter2@localhost:²"),
    "missing authorities": text('[server]\nengine = "rediss://localhost"\n[redis]\nca_file = "FOLDER/none"'),
    "SQLite without a path": variables(SERVER__ENGINE="sqlite://"),
    "SQLite with an empty path": variables(SERVER__ENGINE="sqlite:///"),
    "SQLite at the root": variables(SERVER__ENGINE="sqlite:////"),
    "SQLite at a folder": text('[server]\nengine = "sqlite:///FOLDER"'),
    "SQLite at here": variables(SERVER__ENGINE="sqlite:///."),
    "SQLite in no folder": text('[server]\nengine = "sqlite:///FOLDER/none/rooms.db"'),
    "SQLite below a file": text('[server]\nengine = "sqlite:////etc/passwd/rooms.db"'),
    "SQLite with a NUL": variables(SERVER__ENGINE="sqlite:///a%00b"),
    "SQLite with a long name": variables(SERVER__ENGINE=f"sqlite:///{'x' * 300}"),
    "SQLite at a device": variables(SERVER__ENGINE="sqlite:////dev/null"),
    "a URL for a host": variables(SERVER__HOST="http://localhost"),
    "a host with its port": text('[server]\nhost = "localhost:8000"'),
    "a pattern with a slash": text('[[rooms]]\npattern = "team/*"'),
    "a rule behind one for all": text(
        '[[rooms]]\npattern = "*"\n[[rooms]]\npattern = "staff"\naccess = "none"'
    ),
    "an origin with a path": variables(WEBSOCKET__ALLOWED_ORIGINS="https://a.example/path"),
    "several": text('[auth]\naudience = " a"\nissuer = ""\n[server]\nengine = "nothing://"'),
}


BOTH = """
import sys
from broker.cli import main
for arguments in (["config", "check", sys.argv[1]], ["serve", "--port", "0", "--config", sys.argv[1]]):
    try:
        main(arguments, prog_name="greenroom")
    except SystemExit as end:
        print("status", end.code, file=sys.stderr)
"""
"""Runs both commands in one process, as most of the time of each goes into imports."""


def run(*arguments: str, environ: dict[str, str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        env=environ,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=SAFETY_SECONDS,
        check=False,
    )


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_check_finds_what_a_start_finds(case: Case, tmp_path: Path) -> None:
    toml, changed = case(tmp_path)
    file = tmp_path / "greenroom.toml"
    # As editors on Windows begin it.
    file.write_text(toml, encoding="utf-8-sig")
    environ = {"PATH": os.environ["PATH"], "GREENROOM_SECRET": SECRET, "GREENROOM_API_KEY": API_KEY} | changed
    both = run("-c", BOTH, str(file), environ=environ, folder=tmp_path)
    assert (both.returncode, both.stdout) == (0, "")
    checked, started, rest = both.stderr.split("status 2\n")
    assert checked == started
    assert rest == ""
    for line in checked.splitlines():
        assert line.startswith("greenroom: ")
    for secret in (SECRET, API_KEY, "hunter2"):
        assert secret not in checked
    expected_lines = 3 if "nothing://" in toml else 1
    assert len(checked.splitlines()) == expected_lines, checked


def test_a_file_with_a_byte_order_mark_is_good(tmp_path: Path) -> None:
    file = tmp_path / "greenroom.toml"
    file.write_text("[server]\nport = 0\n", encoding="utf-8-sig")
    environ = {"PATH": os.environ["PATH"], "GREENROOM_SECRET": SECRET, "GREENROOM_API_KEY": API_KEY}
    checked = run("-m", "broker", "config", "check", str(file), environ=environ, folder=tmp_path)
    assert (checked.returncode, checked.stderr) == (0, "")
