"""The GPU bench runs from end to end at a size that a CPU can do, and says so where it measured nothing."""

from pathlib import Path

import pytest
import torch

from tests.bench.gpu import CASES, NOT_MEASURED, ROWS, case_of, main, measure, table


@pytest.mark.parametrize(("model_id", "width", "height"), [("wan2.1-t2v-1.3b", 64, 32), ("wan2.2-ti2v-5b", 64, 64)])
def test_the_dry_run(tmp_path: Path, model_id: str, width: int, height: int) -> None:
    case = case_of(model_id, width, height, frames=5, steps=2, device=torch.device("cpu"))
    rows = measure(case, tmp_path)
    assert list(rows) == list(ROWS)
    assert NOT_MEASURED not in rows.values()
    assert rows["engine kernels"] == "native, eager"
    assert {path.name for path in tmp_path.iterdir()} == {"stock.mp4", "warm.mp4", "one.mp4", "two.mp4"}
    assert table({case.title: rows}).count("\n") == len(ROWS) + 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="here it would measure for minutes")
def test_without_a_gpu_nothing_is_claimed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["gpu"])
    main()
    told = capsys.readouterr().out
    assert "no CUDA device" in told
    assert told.count(NOT_MEASURED) == len(CASES) * len(ROWS)
