"""/openapi.json says what is there, and what is there is in it."""

import importlib.metadata
import json
import re
from urllib.parse import quote

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

PAGES = {
    "/",
    "/web/console",
    "/web/console/{name}",
    "/greenroom.js",
    "/greenroom.d.ts",
    "/ws",
    "/ws/{room}",
    "/web/openapi.json",
    "/web/asyncapi.json",
}


@pytest.fixture
async def document(world):
    response = await world.client.get("/openapi.json")
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "application/json"
    return response.json()


async def test_it_is_valid(document):
    validate(document)


async def test_it_holds_exactly_the_routes(world, document):
    routed = {
        (re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule), method.lower())
        for rule in world.served.app.url_map.iter_rules()
        for method in rule.methods - {"HEAD", "OPTIONS"}
    }
    described = {(path, method) for path, item in document["paths"].items() for method in item}
    assert described == {(path, method) for path, method in routed if path not in PAGES}


async def test_the_described_security_is_that_of_the_routes(world, document):
    world.client.headers.clear()
    for path, item in document["paths"].items():
        for method, operation in item.items():
            url = path.replace("{room}", "lobby").replace("{user}", "ann")
            response = await world.client.request(method, url)
            assert (response.status_code == 401) is bool(operation.get("security"))


def resolve(document, schema):
    while "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return schema


def check(document, schema, value):
    """Check a value against as much of JSON Schema as the document uses."""
    schema = resolve(document, schema)
    if "anyOf" in schema:
        assert any(fits(document, option, value) for option in schema["anyOf"]), (schema, value)
        return
    kinds = {
        "object": dict,
        "array": list,
        "string": str,
        "integer": int,
        "number": (int, float),
        "boolean": bool,
        "null": type(None),
    }
    if "type" in schema:
        assert isinstance(value, kinds[schema["type"]])
    if isinstance(value, dict):
        assert set(schema.get("required", ())) <= set(value)
        for name, field in value.items():
            if name in schema.get("properties", {}):
                check(document, schema["properties"][name], field)
            else:
                assert schema.get("additionalProperties") is not False
                assert not schema.get("properties"), f"{name} is not described"
    if isinstance(value, list):
        for item in value:
            check(document, schema["items"], item)


def fits(document, schema, value):
    try:
        check(document, schema, value)
    except AssertionError:
        return False
    return True


async def test_answers_are_as_described(world, document):
    await world.say("lobby", 1)
    body = {"type": "x"}
    answers = {
        ("/api/rooms/{room}/messages", "post"): await world.client.post("/api/rooms/a/messages", json=body),
        ("/api/rooms/{room}/messages", "get"): await world.client.get(
            "/api/rooms/lobby/messages?since=0&epoch=e"
        ),
        ("/api/broadcast", "post"): await world.client.post(
            "/api/broadcast", json={"rooms": ["a", "/"], "message": body}
        ),
        ("/api/rooms", "get"): await world.client.get("/api/rooms"),
        ("/api/rooms/{room}", "get"): await world.client.get("/api/rooms/lobby"),
        ("/api/rooms/{room}/users/{user}", "delete"): await world.client.delete("/api/rooms/a/users/ann"),
        ("/api/users/{user}", "delete"): await world.client.delete("/api/users/ann"),
        ("/api/rooms/{room}/messages", "delete"): await world.client.delete("/api/rooms/a/messages"),
        ("/api/users", "get"): await world.client.get("/api/users"),
        ("/api/users/{user}", "get"): await world.client.get("/api/users/ann"),
        ("/api/revocations", "post"): await world.client.post("/api/revocations", json={"user_id": "ann"}),
        ("/api/webhooks", "get"): await world.client.get("/api/webhooks"),
        ("/api/explain", "get"): await world.client.get("/api/explain?user=ann&room=lobby"),
        ("/health", "get"): await world.client.get("/health"),
        ("/ready", "get"): await world.client.get("/ready"),
    }
    for (path, method), response in answers.items():
        assert response.status_code == 200
        content = document["paths"][path][method]["responses"]["200"]["content"]
        check(document, content["application/json"]["schema"], response.json())
    problem = (await world.client.get("/api/rooms?limit=0")).json()
    content = document["paths"]["/api/rooms"]["get"]["responses"]["default"]["content"]
    check(document, content["application/problem+json"]["schema"], problem)


async def test_json_is_described_as_json(document):
    """Not as a text, whichever route gives it, and however its type is called."""
    seen = 0
    for item in document["paths"].values():
        for operation in item.values():
            for answer in operation["responses"].values():
                for media, content in answer["content"].items():
                    is_text = resolve(document, content["schema"]).get("type") == "string"
                    assert is_text is media.startswith("text/plain"), operation["operationId"]
                    seen += 1
    assert seen > 40


async def test_names_in_paths_are_described_as_they_are_accepted(world, document):
    names = {
        "room": ("a", "x" * 128, "user_" + "x" * 128, "x" * 129, "..", "a\x01b"),
        "user": ("a", "x" * 129, "a\x01b"),
        "name": ("a", "x" * 129),
    }
    paths = {"room": "/api/rooms/{room}", "user": "/api/users/{user}", "name": "/api/webhooks/{name}/aside"}
    for name, values in names.items():
        (parameter,) = [
            each for each in document["paths"][paths[name]]["get"]["parameters"] if each["in"] == "path"
        ]
        for value in values:
            path = paths[name].replace(f"{{{name}}}", quote(value.replace("..", "%2e%2e"), safe="%"))
            response = await world.client.get(path)
            is_allowed = Draft202012Validator(parameter["schema"]).is_valid(value)
            assert is_allowed is (response.status_code != 400), (name, value)


async def test_content_is_described_as_it_is_accepted(world, document):
    contents = {
        "/api/broadcast": [
            ({"rooms": ["a"], "message": {"type": "x"}}, True),
            ({"rooms": ["a"], "message": {"type": ""}}, False),
            ({"rooms": ["a"], "message": {}}, False),
            ({"rooms": ["a"], "message": "x"}, False),
            ({"rooms": [], "message": {"type": "x"}}, False),
        ],
        "/api/rooms/{room}/messages": [({"type": "x", "more": 1}, True), ({"type": ""}, False), ([], False)],
        "/api/revocations": [
            ({"jti": "a"}, True),
            ({"user_id": "a"}, True),
            ({"user_id": "a", "issued_before": 1}, True),
            ({}, False),
            ({"issued_before": 1}, False),
            ({"jti": "a", "user_id": "b"}, False),
            ({"jti": "a", "issued_before": 1}, False),
        ],
    }
    for path, bodies in contents.items():
        schema = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
        validator = Draft202012Validator({**schema, "components": document["components"]})
        for body, is_good in bodies:
            response = await world.client.post(path.replace("{room}", "a"), json=body)
            assert response.is_success is is_good, (path, body)
            assert validator.is_valid(body) is is_good, (path, body)


async def test_a_batch_without_lines_is_one(world, document):
    assert (await world.client.post("/api/messages")).status_code == 200
    assert document["paths"]["/api/messages"]["post"]["requestBody"]["required"] is False


async def test_a_line_of_a_batch_is_as_described(world, document):
    response = await world.client.post(
        "/api/messages", content=b'{"room":"a","message":{"type":"x"},"id":1}\n{}\n'
    )
    content = document["paths"]["/api/messages"]["post"]["responses"]["200"]["content"]
    for line in response.text.splitlines():
        check(document, content["application/x-ndjson"]["schema"], json.loads(line))


async def test_parameters_are_as_described(world, document):
    for path, item in document["paths"].items():
        for parameter in [p for operation in item.values() for p in operation["parameters"]]:
            assert parameter["in"] in {"path", "query", "header"}
            assert parameter.get("required", False) is (parameter["in"] == "path"), path
    names = {p["name"] for p in document["paths"]["/api/rooms/{room}/messages"]["get"]["parameters"]}
    assert names == {"room", "since", "epoch", "limit", "reverse"}
    names = {p["name"] for p in document["paths"]["/api/rooms/{room}/messages"]["post"]["parameters"]}
    options = {"ephemeral", "tags", "exclude_user", "exclude_connection"}
    assert names == {"room", "Idempotency-Key", *options}


async def test_it_names_the_version(open_world, monkeypatch):
    monkeypatch.setattr(importlib.metadata, "version", lambda name: f"{name} 1.2.3")
    async with open_world() as world:
        assert (await world.client.get("/openapi.json")).json()["info"]["version"] == "greenroom 1.2.3"


async def test_it_does_without_an_installation(open_world, monkeypatch):
    real = importlib.metadata.version

    def fail(name):
        # The HTTP client of a test asks for versions of its own when it is first imported.
        if name != "greenroom":
            return real(name)
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", fail)
    async with open_world() as world:
        assert (await world.client.get("/openapi.json")).json()["info"]["version"] == "0"


async def test_nothing_is_loaded_from_elsewhere(world):
    for path in ["/docs", "/redocs", "/scalar"]:
        assert (await world.client.get(path)).status_code == 404
