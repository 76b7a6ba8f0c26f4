# SPDX-License-Identifier: Apache-2.0
"""docs/openapi.yaml says what the server does: the same paths and roles as in its tables, and answers as
described to requests that schemathesis makes from it, with and without sense."""

import os
import pathlib
import re
import subprocess

import controller_cast
import pytest
import yaml
from node import ROOT

DOCUMENT = ROOT / "docs/openapi.yaml"
ROLES = {"ADMIN": "admin", "USER": "user", "JOIN": "join", "NODE": "node", "RUN": "run"}
ROLES["METRICS"] = "job"
SCHEMATHESIS = ROOT / "build/tools/bin/schemathesis"


def operations():
    """(method, path) -> the operation."""
    paths = yaml.safe_load(DOCUMENT.read_text())["paths"]
    return {
        (method.upper(), path): {"shared": item.get("parameters", []), **operation}
        for path, item in paths.items()
        for method, operation in item.items()
        if method != "parameters"
    }


def routes():
    """(method, path) -> names of roles; from the tables in the sources."""
    found = {}
    for source in sorted((ROOT / "controller/api").glob("*.c")):
        text = source.read_text()
        names = dict(re.findall(r"\b([A-Z]+) = ((?:ROLE_\w+[ |\-1]*)+)", text))
        table = text[text.index("const struct route api_") :] if "route api_" in text else ""
        for method, pattern, roles in re.findall(
            r'\.method = "(\w+)",\s*\.pattern = "([^"]+)",\s*\.roles = ([^,]+),', table
        ):
            for name, value in names.items():
                roles = re.sub(rf"\b{name}\b", value, roles)
            words = set(re.findall(r"ROLE_(\w+)", roles))
            if words == {"NONE"}:  # ROLE_NONE - 1 is all of them
                words = set(ROLES) if "- 1" in roles else set()
            found[method, pattern.replace("*}", "}")] = {ROLES[w] for w in words}
    return found


def test_paths_are_those_of_the_server():
    served, told = routes(), operations()
    assert len(served) >= 39
    assert sorted(served) == sorted(told)
    for key, roles in served.items():
        assert {name for s in told[key]["security"] for name in s} == roles, key


def test_every_table_is_served():
    """A table that is not in the server's list would be documented, and answered with 404."""
    tables = re.findall(r"const struct route (api_\w+)\[\]",
                        "".join(p.read_text() for p in (ROOT / "controller/api").glob("*.c")))  # fmt: skip
    served = (ROOT / "controller/command/serve.c").read_text()
    listed = served[served.index("routes[] = {") :].partition("};")[0]
    assert sorted(re.findall(r"api_\w+", listed)) == sorted(tables)


def test_every_path_is_there(controller):
    for method, path in operations():
        reply = controller.request(method, re.sub(r"\{\w+\}", "x", path), token="")
        assert reply.status in (200, 401), (method, path, reply)


# ----- schemathesis


def strict(document):
    """Answers may have members that the client does not know; here they must not."""

    def close(schema):
        if isinstance(schema, dict):
            if schema.get("type") == "object" and "properties" in schema:
                schema.setdefault("additionalProperties", False)
            for value in schema.values():
                close(value)
        elif isinstance(schema, list):
            for value in schema:
                close(value)

    open_ones = {"Job", "Poll", "AttemptReport"}
    for name, schema in document["components"]["schemas"].items():
        if name not in open_ones:
            close(schema)
    return document


# What would end those with whom the others ask is done to somebody else: schemathesis finds ids in
# answers and uses them.
def aside(cast):
    return {
        "DELETE /v1/tokens/{id}": {"path.id": cast.spare_token()},
        "DELETE /v1/nodes/{node}": {"path.node": cast.spare_node()},
        "DELETE /v1/runs/{run}": {"path.run": cast.ended_run()},
        # These would wait for the run's end.
        "GET /v1/runs/{run}/events": {"path.run": cast.ended_run()},
        "GET /v1/runs/{run}/files/{path}": {"query.follow": "0"},
    }


# Whether these are done depends on what is there, on the clock, or on the length in bytes, which no
# schema says.
DEPENDS = ("PATCH /v1/runs/{run}/files/{path}", "POST /v1/runs/{run}/files/{path}",
           "POST /v1/runs/{run}/changes", "POST /v1/tokens", "POST /v1/runs/{run}/metrics",
           "POST /v1/runs")  # fmt: skip

# Which token each operation is asked with, by its security: the first that fits.
TOKENS = {"admin": "admin", "node": "one", "run": "ada_run"}


def settings(cast):
    """schemathesis.toml."""
    hooks = pathlib.Path(__file__).with_name("openapi_hooks.py")
    lines = [
        f'hooks = "{hooks}"', "generation.allow-x00 = false",
        "generation.allow-extra-parameters = false",
        # Wrong, and too large before anything else was looked at.
        'checks.negative_data_rejection.expected-statuses = ["4xx"]',
        # 416: a range of a file that is shorter.
        "checks.positive_data_acceptance.expected-statuses = "
        '["2xx", "401", "403", "404", "409", "416"]', "",
        "[parameters]", f'"path.run" = "{cast.ada_run}"', f'"path.node" = "{cast.nodes["two"]}"',
        f'"path.sha256" = "{cast.snapshot}"',
        '"path.name" = "model"', '"path.version" = 1', '"path.path" = "outputs/model/weights"', "",
    ]  # fmt: skip
    others = aside(cast)
    for (method, path), operation in operations().items():
        name = f"{method} {path}"
        lines += ["[[operations]]", f'include-name = "{name}"', "continue-on-failure = true"]
        lines += [f'parameters."{k}" = "{v}"' for k, v in others.get(name, {}).items()]
        if name in DEPENDS:
            lines += ['checks.positive_data_acceptance.expected-statuses = ["2xx", "4xx"]']
        roles = [name for s in operation["security"] for name in s]
        who = next((TOKENS[r] for r in TOKENS if r in roles), None)
        if name == "DELETE /v1/node":
            who = "spare"
        if who:
            lines += [f'headers = {{ Authorization = "Bearer ${{TOKEN_{who}}}" }}']
        lines += [""]
    return "\n".join(lines)


# The nodes of the cast do not poll by themselves.
SETTINGS = "limits: {user_rate: 100000, node_rate: 100000, lease: 1h}\n"


@pytest.fixture
def cast(make_controller):
    c = make_controller(start=False)
    (c.folder / "controller.yaml").write_text(SETTINGS)
    cast = controller_cast.Cast(c.start())
    cast.put("ada", "outputs/model/weights", b"weights" * 100)
    model = {"name": "model", "run": cast.ada_run, "path": "outputs/model"}
    assert c.post("/v1/models", model).status == 201
    return cast


# Cases of each member of each schema; random ones; sequences of requests, by links. Seconds, and examples
# of the last two.
CAMPAIGNS = [("fuzzing", 600, 400), ("stateful", 300, 200)]


def test_answers_are_as_described(cast, tmp):
    ask(cast, tmp, "coverage,fuzzing,stateful", 90, 3)


@pytest.mark.full
@pytest.mark.parametrize(("phase", "seconds", "examples"), CAMPAIGNS)
def test_many_answers_are_as_described(cast, tmp, phase, seconds, examples):
    ask(cast, tmp, phase, seconds, examples)


def ask(cast, tmp, phases, seconds, examples):
    (tmp / "openapi.yaml").write_text(yaml.safe_dump(strict(yaml.safe_load(DOCUMENT.read_text()))))
    (tmp / "schemathesis.toml").write_text(settings(cast))
    cast.spare_node()  # which may sign off
    told = {f"TOKEN_{who}": token for who, token in cast.tokens.items()}
    told["ADA_RUN"] = cast.ada_run
    limits = ["--max-time", str(seconds), "--max-examples", str(examples)]
    done = subprocess.run(
        [SCHEMATHESIS, "run", tmp / "openapi.yaml", "--url", cast.controller.url, *limits,
         "--phases", phases, "--checks", "all", "--request-timeout", "20"],
        cwd=tmp, env={**os.environ, **told}, capture_output=True, text=True,
        timeout=seconds + 600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-20000:] + done.stderr
    assert "39 selected / 39 total" in done.stdout
    assert cast.controller.get("/healthz").status == 200
