import json
from pathlib import Path

import pytest
import yaml

from mnist_cnn import summary


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace with the results of a run."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "metrics").mkdir()
    (tmp_path / "metrics/metrics.json").write_text(json.dumps({"errors": 7, "accuracy": 0.99}))
    out = {"path": "models/model.keras", "hash": "md5", "md5": "0123abcd", "size": 12}
    (tmp_path / "dvc.lock").write_text(yaml.safe_dump({"stages": {"train": {"outs": [out]}}}))
    return tmp_path


@pytest.mark.usefixtures("results")
def test_metrics_and_artifacts_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    summary.main()
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["errors", "7"] in lines
    assert ["accuracy", "0.99"] in lines
    assert ["models/model.keras", "train", "12", "0123abcd"] in lines


@pytest.mark.parametrize("file", ["metrics/metrics.json", "dvc.lock"])
@pytest.mark.parametrize("content", [None, "", "[1]", "{"])
def test_results_that_cannot_be_read_are_one_line(
    results: Path, capsys: pytest.CaptureFixture[str], file: str, content: str | None
) -> None:
    (results / file).unlink()
    if content is not None:
        (results / file).write_text(content)
    with pytest.raises(SystemExit, match="1"):
        summary.main()
    assert capsys.readouterr().err.startswith("error: metrics/metrics.json and dvc.lock cannot be")
