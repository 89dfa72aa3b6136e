"""Replicate's Python client, unmodified, with its base URL pointing here."""

import io
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from replicate.client import Client
from replicate.exceptions import ReplicateError

from tests.contracts.node_service import FOLDER, new_payer
from tests.live_service import Service

pytestmark = [pytest.mark.xdist_group("service"), pytest.mark.filterwarnings("ignore::DeprecationWarning")]
SMALL: dict[str, Any] = {"duration": 1, "resolution": "480p"}
MODEL = "cinemeter/synthetic"


def connect(service: Service, key: str) -> Client:
    client = Client(api_token=key, base_url=f"{service.base_url}/replicate")
    client.poll_interval = 0.2
    return client


@pytest.fixture
def client(service: Service) -> Iterator[Client]:
    client = connect(service, service.keys["pro"])
    yield client
    client._client.close()


def test_run_waits_for_the_film(client: Client) -> None:
    # A film behind http: is its URL; behind https: the client makes a file of it.
    output = client.run(MODEL, input={"prompt": "bars", **SMALL})
    assert httpx.get(output).content[4:8] == b"ftyp"


def test_a_prediction_from_a_file_reports_its_progress(client: Client) -> None:
    picture = io.BytesIO((FOLDER / "frame.png").read_bytes())
    picture.name = "frame.png"
    prediction = client.predictions.create(
        model=MODEL, input={"prompt": "a picture", "image": picture, "num_inference_steps": 4, **SMALL}
    )
    assert prediction.status in ("starting", "processing")
    assert "input.num_inference_steps was ignored" in (prediction.logs or "")
    prediction.wait()
    assert (prediction.status, prediction.model, prediction.version) == ("succeeded", MODEL, "synthetic")
    assert prediction.progress is not None
    assert prediction.progress.percentage == 1.0
    assert httpx.get(prediction.output).content[4:8] == b"ftyp"
    assert prediction.metrics is not None
    assert prediction.metrics["predict_time"] > 0


def test_lists_go_on_by_their_cursor(client: Client) -> None:
    made = {client.models.predictions.create(MODEL, {"prompt": f"list {n}", **SMALL}).id for n in range(3)}
    page = client.predictions.list()
    assert made <= {each.id for each in page.results}
    while page.next:
        page = client.predictions.list(page.next)
    assert page.results


def test_a_prediction_is_cancelled_once(client: Client) -> None:
    prediction = client.predictions.create(
        version=MODEL, input={"prompt": "stop", "duration": 60, "resolution": "480P"}
    )
    prediction.cancel()
    prediction.wait()
    assert (prediction.status, prediction.error) == ("canceled", None)
    prediction.cancel()
    assert prediction.status == "canceled"


def test_models_have_a_schema_of_their_inputs(client: Client) -> None:
    model = client.models.get(MODEL)
    assert model.latest_version is not None
    properties = model.latest_version.openapi_schema["components"]["schemas"]["Input"]["properties"]
    assert properties["duration"]["maximum"] == 120
    assert {each.name for each in client.models.list().results} >= {"demo", "synthetic"}


def test_bad_input_raises_its_error_with_our_sentence_and_holds_nothing(service: Service) -> None:
    payers = {name: new_payer(service, f"Python {name}", amount=amount) for name, amount in MONEY.items()}
    for change, sentence, status in REFUSED:
        client = connect(service, payers["poor" if sentence == "wallet" else "careful"].key)
        with pytest.raises(ReplicateError) as refused:
            client.models.predictions.create(
                change.get("model", MODEL), {"prompt": "x", **SMALL, **change.get("input", {})}
            )
        client._client.close()
        assert sentence in (refused.value.detail or ""), (change, refused.value)
        assert refused.value.status == status, (change, refused.value)
    assert all(payer.holds_nothing() for payer in payers.values())


MONEY = {"careful": "100.00", "poor": None}
REFUSED: list[tuple[dict[str, Any], str, int]] = [
    ({"model": "cinemeter/no-such-model"}, "no-such-model", 404),
    ({"input": {"image": "https://127.0.0.1:9/frame.png"}}, "This URL cannot be", 422),
    ({"input": {"prompt": "a" * 5001}}, "at most 5000 characters", 422),
    ({}, "wallet", 402),
]


def test_the_webhook_secret_needs_its_scope(service: Service) -> None:
    client = connect(service, service.keys["pro"])
    assert client.webhooks.default.secret().key.startswith("whsec_")
    client._client.close()
    stranger = connect(service, service.keys["admin"])
    with pytest.raises(ReplicateError) as refused:
        stranger.webhooks.default.secret()
    stranger._client.close()
    assert refused.value.status == 403
