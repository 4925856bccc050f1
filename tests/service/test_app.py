from __future__ import annotations

import copy
import re
from typing import Any

import pytest

from service import schemas
from service.options import Options
from service.problems import Problem
from service.transports.examples import EXAMPLES
from tests.serving import RunningApp

CLASSIFY = ("/v1/models/{model}/classify", "/v1/models/{model}/versions/{version}/classify")
SCHEMAS: dict[str, type[schemas.Schema]] = {
    "livez": schemas.Alive,
    "readyz": schemas.Ready,
    "list": schemas.ModelList,
    "card": schemas.ModelCard,
    "classify": schemas.Classification,
}


@pytest.fixture(scope="module")
def described(server: RunningApp) -> dict[str, Any]:
    response = server.get("/openapi.json")
    assert response.status_code == 200
    document: dict[str, Any] = response.json()
    return document


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [(path, method, o) for path, methods in document["paths"].items() for method, o in methods.items()]


def resolve(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    if "$ref" in schema:
        found: dict[str, Any] = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        return found
    return schema


def test_every_endpoint_is_described_with_a_worked_example(described: dict[str, Any]) -> None:
    assert [(path, method) for path, method, _ in operations(described) if not path.startswith("/v2")] == [
        ("/livez", "get"),
        ("/metrics", "get"),
        ("/readyz", "get"),
        ("/v1/models", "get"),
        ("/v1/models/{model}", "get"),
        ("/v1/models/{model}/classify", "post"),
        ("/v1/models/{model}/versions/{version}", "get"),
        ("/v1/models/{model}/versions/{version}/classify", "post"),
    ]
    for path, _, operation in operations(described):
        assert operation["summary"], path
        content, *_ = operation["responses"]["200"]["content"].values()
        assert content["example"], path


def test_every_reference_leads_somewhere(described: dict[str, Any]) -> None:
    names = set(re.findall(r'"#/components/schemas/([^"]+)"', str(described).replace("'", '"')))
    assert names
    assert names <= set(described["components"]["schemas"])
    assert "HTTPValidationError" not in described["components"]["schemas"]


def test_every_error_is_described_as_a_problem(described: dict[str, Any]) -> None:
    for path, _, operation in operations(described):
        for code, response in operation["responses"].items():
            if code != "200" and not path.startswith("/v2"):
                assert list(response["content"]) == ["application/problem+json"], (path, code)
                assert response["content"]["application/problem+json"]["example"]["status"] == int(code)
    for path in CLASSIFY:
        codes = set(described["paths"][path]["post"]["responses"])
        assert codes == {"200", "400", "401", "404", "408", "413", "415", "422", "429", "500", "503", "504"}


def test_what_may_ask_for_a_key_or_the_token_says_so(described: dict[str, Any]) -> None:
    schemes = described["components"]["securitySchemes"]
    secured = {path: o["security"] for path, _, o in operations(described) if "security" in o}
    assert {name for choices in secured.values() for choice in choices for name in choice} == schemes.keys()
    keys = {path for path, choices in secured.items() if {"ApiKey": []} in choices}
    assert keys == {path for path, _, _ in operations(described) if path.endswith(("/classify", "/infer"))}
    assert secured.keys() - keys == {f"/v2/repository/models/{{model}}/{change}" for change in ("load", "unload")}


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_the_examples_are_answers_as_the_schemas_have_them(name: str) -> None:
    SCHEMAS[name].model_validate(EXAMPLES[name])


def test_the_examples_of_problems_are_problems() -> None:
    examples = {name: value for name, value in EXAMPLES.items() if name.startswith("problem-")}
    assert len(examples) == 11
    for name, example in examples.items():
        assert schemas.Problem.model_validate(example).status == int(name.removeprefix("problem-"))


def test_query_form_and_json_offer_the_options_of_one_class(described: dict[str, Any]) -> None:
    names = list(Options.model_fields)
    for path in CLASSIFY:
        operation = described["paths"][path]["post"]
        query = [p["name"] for p in operation["parameters"] if p["in"] == "query"]
        content = operation["requestBody"]["content"]
        form = list(content["multipart/form-data"]["schema"]["properties"])
        json = [list(choice["properties"]) for choice in content["application/json"]["schema"]["oneOf"]]
        assert query == names
        assert form == ["image", *names]
        assert json == [["images", *names], ["instances", *names]]
        timesteps = next(p["schema"] for p in operation["parameters"] if p["name"] == "timesteps")
        number, word = timesteps["oneOf"]
        assert (number["type"], number["minimum"], number["maximum"]) == ("integer", 1, 1024)
        assert word["const"] == "auto"


def test_the_example_of_a_request_can_be_sent(server: RunningApp, described: dict[str, Any]) -> None:
    content = described["paths"][CLASSIFY[0]]["post"]["requestBody"]["content"]
    body = content["application/json"]["example"]
    assert server.post("/v1/models/tiny/classify", json=body).status_code == 200


def test_answers_have_no_member_that_is_not_described(server: RunningApp, described: dict[str, Any]) -> None:
    def check(value: Any, schema: dict[str, Any], where: str) -> None:
        schema = resolve(described, schema)
        for choice in schema.get("anyOf", []):
            if (value is None) == (choice.get("type") == "null"):
                return check(value, choice, where)
        if isinstance(value, dict) and "properties" in schema:
            assert set(value) <= set(schema["properties"]), where
            assert set(schema.get("required", [])) <= set(value), where
            for name, member in value.items():
                check(member, schema["properties"][name], f"{where}.{name}")
        elif isinstance(value, list):
            for item in value:
                check(item, schema["items"], where)
        return None

    for path in ("/v1/models", "/v1/models/tiny", "/readyz", "/livez"):
        template = path.replace("/tiny", "/{model}")
        schema = described["paths"][template]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
        check(server.get(path).json(), schema, path)
    body = copy.deepcopy(
        described["paths"][CLASSIFY[0]]["post"]["requestBody"]["content"]["application/json"]["example"]
    )
    answer = server.post("/v1/models/tiny/classify", json={**body, "include": ["input"]}).json()
    check(answer, {"$ref": "#/components/schemas/Classification"}, "classify")


def test_the_page_at_docs_needs_no_other_server(server: RunningApp) -> None:
    page = server.get("/docs")
    assert page.status_code == 200
    assert "://" not in page.text
    for address in re.findall(r'(?:src|href)="([^"]+)"', page.text):
        assert server.get(address).status_code == 200, address


def test_a_fault_anywhere_is_a_problem_too(server: RunningApp, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr(server.services.models, "models", fail)
    response = server.get("/v1/models")
    assert response.status_code == 500
    assert response.headers["content-type"] == "application/problem+json"
    assert "secret" not in response.text


def test_kinds_of_problems_can_be_told_apart() -> None:
    def kinds(base: type[Problem]) -> list[type[Problem]]:
        return [base, *(kind for sub in base.__subclasses__() for kind in kinds(sub))]

    named = [kind for kind in kinds(Problem)[1:] if kind.__name__ not in ("InternalError", "OtherProblem")]
    assert len({kind.slug for kind in named}) == len(named)
    assert all(400 <= kind.status < 600 for kind in named)
