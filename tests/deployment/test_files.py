"""The files and tables of docs/deployment.md agree with the code: names of settings, drains, log lines, metrics."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import trio
import yaml

from broker.config.keys import read_schema
from broker.config.load import load_settings
from broker.config.settings import Settings
from broker.errors import RefusalReason
from broker.log.stdlib import LOSS_EVENT

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "docs" / "deploy"
GUIDE = (ROOT / "docs" / "deployment.md").read_text()
STOP_SECONDS = 5
"""How much longer than its window a drain may take."""

SCHEMA = read_schema(Settings)
VARIABLES = {name for key in SCHEMA.known_keys() for name in (key.variable, key.long_variable)}


def texts():
    return {path.name: path.read_text() for path in DEPLOY.iterdir()}


def test_each_file_is_named_in_the_guide_and_each_link_leads_somewhere():
    for name in texts():
        assert f"(deploy/{name})" in GUIDE
    for link in re.findall(r"\]\(([^)#]+)\)", GUIDE):
        assert (ROOT / "docs" / link).exists(), link


@pytest.mark.parametrize("name", sorted(texts()))
def test_each_variable_is_one_of_ours(name):
    words = set(re.findall(r"\bGREENROOM_[A-Z_]+", texts()[name])) - {"GREENROOM_SERVICE_HOST"}
    assert words - VARIABLES == set()


def test_the_values_of_the_manifests_can_be_loaded():
    deployment = next(
        one for one in yaml.safe_load_all(texts()["kubernetes.yaml"]) if one["kind"] == "Deployment"
    )
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    compose = yaml.safe_load(texts()["compose.yaml"])
    for environ in (
        {item["name"]: item.get("value", "a-pod") for item in container["env"]},
        compose["services"]["node1"]["environment"],
    ):
        plain = {name: value for name, value in environ.items() if not name.endswith("_FILE")}
        assert all(isinstance(value, str) for value in plain.values())
        load_settings(file=None, environ=plain, flags={})


def test_kubernetes_waits_for_the_drain():
    documents = list(yaml.safe_load_all(texts()["kubernetes.yaml"]))
    assert [one["kind"] for one in documents] == ["Deployment", "Service", "PodDisruptionBudget"]
    deployment, service, budget = documents
    pod = deployment["spec"]["template"]["spec"]
    [container] = pod["containers"]
    environ = {item["name"]: item.get("value") for item in container["env"]}
    pause = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    drain = float(environ["GREENROOM_SERVER__DRAIN_SECONDS"])
    assert pod["terminationGracePeriodSeconds"] >= pause + drain + STOP_SECONDS
    assert container["livenessProbe"]["httpGet"]["path"] == "/health"
    assert container["startupProbe"]["httpGet"]["path"] == "/health"
    assert container["readinessProbe"]["httpGet"]["path"] == "/ready"
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"] == budget["spec"]["selector"]["matchLabels"] == labels
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    files = {value for name, value in environ.items() if name.endswith("_FILE")}
    assert {str(Path(file).parent) for file in files} <= mounts
    assert pod["securityContext"]["runAsNonRoot"]


def test_compose_waits_for_the_drain_and_has_two_nodes():
    compose = yaml.safe_load(texts()["compose.yaml"])
    nodes = [name for name, service in compose["services"].items() if "build" in service]
    assert nodes == ["node1", "node2"]
    for name in nodes:
        service = compose["services"][name]
        assert (
            int(service["stop_grace_period"].removesuffix("s"))
            >= Settings().server.drain_seconds + STOP_SECONDS
        )
        assert set(service["secrets"]) == set(compose["secrets"])
        assert (DEPLOY / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
    caddyfile = compose["configs"]["caddyfile"]["content"]
    assert all(f"{name}:8000" in caddyfile for name in nodes)


def test_traefik_has_one_router_for_what_clients_need():
    configured = yaml.safe_load(texts()["traefik.yaml"])["http"]
    [router] = configured["routers"].values()
    assert router["service"] in configured["services"]
    assert set(router["middlewares"]) == set(configured["middlewares"])
    for path in ("/ws", "/greenroom.js", "/events$"):
        assert path in router["rule"]


def test_the_image_is_slim_not_root_and_has_greenroom_as_process_1():
    text = texts()["Dockerfile"]
    last = text.rpartition("\nFROM ")[2]
    assert last.startswith("python:")
    assert "-slim" in last.splitlines()[0]
    user = re.search(r"^USER (\d+)", last, re.MULTILINE)
    assert user is not None
    assert int(user[1]) > 0
    assert re.search(r'^ENTRYPOINT \["greenroom"\]$', last, re.MULTILINE), "a shell would not pass signals on"
    # The working directory can be written to by that user, also as a volume: sqlite:///rooms.db is a file in it.
    folder = re.search(
        r"^RUN install --directory --owner=(\d+) .* (/\S+)\nWORKDIR (\S+)$", last, re.MULTILINE
    )
    assert folder is not None
    assert (folder[1], folder[2]) == (user[1], folder[3])


async def test_the_image_s_health_check_asks_the_configured_port_and_no_proxy(serve):
    check = re.search(r"^HEALTHCHECK .*\\\n +CMD (\[.+\])$", texts()["Dockerfile"], re.MULTILINE)
    assert check is not None
    python, *arguments = json.loads(check[1])
    assert python == "python"
    nobody = "http://127.0.0.1:1"
    async with serve() as served:
        for port, status in ((urlsplit(served.url).port, 0), (1, 1)):
            environ = {**os.environ, "GREENROOM_SERVER__PORT": f"{port}", "http_proxy": nobody}
            command = [sys.executable, *arguments]
            done = await trio.run_process(command, env=environ, check=False, capture_stderr=True)
            assert done.returncode == status, done.stderr


@pytest.mark.skipif(shutil.which("docker") is None, reason="needs docker")
@pytest.mark.parametrize("arguments", [["compose", "config", "--quiet"]])
def test_docker_reads_the_compose_file(arguments, tmp_path):
    if subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode:
        pytest.skip("needs docker compose")
    command = ["docker", "compose", "--file", DEPLOY / "compose.yaml", *arguments[1:]]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_has_nothing_to_say_to_the_unit(tmp_path):
    # The program of this test stands for the one that is installed.
    unit = texts()["greenroom.service"].replace("/opt/greenroom/bin/greenroom", shutil.which("true"))
    file = tmp_path / "greenroom.service"
    file.write_text(unit)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", file], capture_output=True, text=True, check=False
    )
    told = [line for line in done.stderr.splitlines() if "greenroom.service" in line]
    assert (done.returncode, told) == (0, [])


def test_systemd_waits_for_the_drain():
    [seconds] = re.findall(r"^TimeoutStopSec=(\d+)$", texts()["greenroom.service"], re.MULTILINE)
    assert int(seconds) >= Settings().server.drain_seconds + STOP_SECONDS


def events_of(source):
    """Return the events that a module logs as a warning or an error."""
    for node in ast.walk(ast.parse(source)):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in {"warning", "error", "exception", "log_failure"}
            and node.args
            and isinstance(node.args[0], ast.Constant)
            and isinstance(node.args[0].value, str)
        ):
            yield node.args[0].value


def rows(heading):
    section = GUIDE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    return re.findall(r"^\| (`.+?) \| .+ \|$", section, re.MULTILINE)


def test_the_table_of_log_lines_has_each_line_of_the_code():
    logged = {event for path in (ROOT / "broker").rglob("*.py") for event in events_of(path.read_text())}
    assert len(logged) > 15
    listed = [
        event for row in rows("Log lines that ask for action") for event in re.findall(r"`([^`]+)`", row)
    ]
    assert sorted(listed) == sorted(logged | {LOSS_EVENT})


def test_the_table_of_metrics_asks_for_metrics_and_reasons_that_exist():
    alerts = rows("Metrics that ask for action")
    assert len(alerts) > 8
    reference = (ROOT / "docs" / "reference.md").read_text()
    for name in set(re.findall(r"\bgreenroom_\w+", " ".join(alerts))):
        assert f"`{name.removesuffix('_bucket')}" in reference, name
    reasons = {
        word for text in re.findall(r'reason=~"([^"]+)"', " ".join(alerts)) for word in text.split("\\|")
    }
    assert reasons <= {str(reason.value) for reason in RefusalReason}
