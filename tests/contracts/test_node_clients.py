"""The clients of Node, unmodified, with only their base URL changed; one process of Node runs them all."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.contracts.node_service import Payer, missing_node, new_payer, run_clients
from tests.live_service import Service

MISSING = missing_node()
pytestmark = [
    pytest.mark.deep,
    pytest.mark.timeout(900),
    pytest.mark.xdist_group("service"),
    pytest.mark.skipif(MISSING is not None, reason=MISSING or ""),
]
CLIENTS = ("gateway", "replicate", "openai", "aiReplicate", "aiAlibaba")
# The error classes of each client, for an unknown model, for too little money, and for the rest.
ERRORS = {
    "gateway": ("GatewayModelNotFoundError", "GatewayInvalidRequestError", "GatewayInvalidRequestError"),
    "replicate": ("ApiError",) * 3,
    "openai": ("UnprocessableEntityError", "APIError", "UnprocessableEntityError"),
    "aiReplicate": ("AI_APICallError",) * 3,
    "aiAlibaba": ("AI_APICallError",) * 3,
}


@pytest.fixture(scope="module")
def payers(service: Service) -> dict[str, Payer]:
    """An account for refused orders that could pay, and one that has no money."""
    return {"careful": new_payer(service, "Careful", amount="100.00"), "poor": new_payer(service, "Poor")}


@pytest.fixture(scope="module")
def seen(service: Service, payers: dict[str, Payer]) -> dict[str, Any]:
    return run_clients(service, {**service.keys, **{name: payer.key for name, payer in payers.items()}})


@pytest.fixture
def of_client(seen: dict[str, Any]) -> Callable[[str], dict[str, Any]]:
    def facts(name: str) -> dict[str, Any]:
        assert "failure" not in seen[name], (seen[name]["failure"], seen[name]["cause"])
        client: dict[str, Any] = seen[name]
        return client

    return facts


@pytest.mark.parametrize("name", CLIENTS)
def test_bad_input_is_refused_in_the_clients_own_class_with_our_sentence(
    of_client: Callable[[str], dict[str, Any]], name: str
) -> None:
    refused = of_client(name)["refused"]
    of_model, of_money, others = ERRORS[name]
    classes = {"model": of_model, "money": of_money}
    sentences = {
        "model": "no-such-model",
        "picture": "This URL cannot be",
        "prompt": "at most 5000 characters",
        "money": "wallet",
    }
    for case, sentence in sentences.items():
        assert sentence in refused[case]["message"], (case, refused[case])
        assert refused[case]["name"] == classes.get(case, others), (case, refused[case])
        assert 400 <= refused[case]["status"] < 500, (case, refused[case])


def test_nothing_is_held_for_what_was_refused(seen: dict[str, Any], payers: dict[str, Payer]) -> None:
    assert all("failure" not in facts for facts in seen.values())
    assert all(payer.holds_nothing() for payer in payers.values())


@pytest.mark.parametrize("name", CLIENTS)
def test_a_wrong_key_is_refused(of_client: Callable[[str], dict[str, Any]], name: str) -> None:
    stranger = of_client(name)["stranger"]
    assert stranger["status"] == 401, stranger
    # The gateway's client writes a sentence of its own.
    assert name == "gateway" or "key" in stranger["message"].lower(), stranger


def test_the_gateways_client_makes_films_by_one_call_by_polling_and_by_callback(
    of_client: Callable[[str], dict[str, Any]], service: Service
) -> None:
    gateway = of_client("gateway")
    assert gateway["films"] == ["ftyp"] * 4
    metadata = gateway["metadata"]
    assert metadata["price"] == metadata["charged"]
    assert (metadata["model"], metadata["size"], metadata["seconds"]) == ("synthetic", "832x480", "1")
    assert [warning["feature"] for warning in gateway["warnings"]] == ["fps"]
    assert "cinemeter/synthetic" in gateway["models"]
    assert gateway["cancelled"]["status"] == "error"
    assert "cancelled" in gateway["cancelled"]["error"]
    with service.client("enterprise") as native:
        assert native.get(f"/v1/videos/{gateway['framed']}").json()["resolved"]["mode"] == "i2v"


def test_a_call_whose_answer_was_lost_makes_no_second_film(of_client: Callable[[str], dict[str, Any]]) -> None:
    first, second = of_client("gateway")["lost"]
    assert first == second


def test_replicates_client_runs_waits_lists_and_cancels(of_client: Callable[[str], dict[str, Any]]) -> None:
    replicate = of_client("replicate")
    assert replicate["film"] == "ftyp"
    created, ended = replicate["created"], replicate["ended"]
    assert "input.guidance_scale was ignored" in created["logs"]
    assert (ended["status"], ended["model"], ended["input"]["duration"]) == ("succeeded", "cinemeter/synthetic", 1)
    assert "100%|" in ended["logs"]
    assert created["id"] in replicate["listed"]
    assert replicate["signed"]
    hooked = replicate["hooked"]
    assert (hooked["id"], hooked["status"], hooked["output"][:4]) == (created["id"], "succeeded", "http")
    schema = replicate["model"]["latest_version"]["openapi_schema"]["components"]["schemas"]["Input"]
    assert schema["properties"]["resolution"]["enum"] == ["480P", "720P", "1080P"]
    assert replicate["cancelled"]["status"] == "canceled"


@pytest.mark.parametrize("name", ["openai", "aiReplicate", "aiAlibaba"])
def test_the_other_clients_make_poll_and_download_a_film(of_client: Callable[[str], dict[str, Any]], name: str) -> None:
    assert of_client(name)["film"] == "ftyp"
