"""Run the installed `greenroom` as a newcomer would: serve, look, send, stop. Usage: smoke.py GREENROOM."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request

greenroom = sys.argv[1]
environment = {
    "PATH": os.environ["PATH"],
    "GREENROOM_SECRET": "smoke-test-secret-0123456789-abcdefghijkl",
    "GREENROOM_API_KEY": "smoke-test-key-0123456789",
}
server = subprocess.Popen(
    [greenroom, "serve", "--port", "0"], env=environment, stderr=subprocess.PIPE, text=True
)
try:
    listening = json.loads(server.stderr.readline())
    url = listening["url"]
    pages = (
        "/",
        "/greenroom.js",
        "/greenroom.d.ts",
        "/openapi.json",
        "/asyncapi.json",
        "/schema/greenroom.v1.json",
    )
    for path in ("/health", "/ready", "/metrics", *pages):
        with urllib.request.urlopen(url + path, timeout=10) as response:
            assert response.status == 200, path
    sent = subprocess.run(
        [greenroom, "send", "--url", url, "lobby", "hello"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert sent.stdout == "lobby 1\n", sent
    server.send_signal(signal.SIGTERM)
    started = time.monotonic()
    assert server.wait(timeout=20) == 0
    print(f"smoke: served, sent and drained in {time.monotonic() - started:.1f} s")
finally:
    server.kill()
    server.wait()
