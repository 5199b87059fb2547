import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import vl_convert
import yaml

from mnist_cnn import scoring
from mnist_cnn.arrays import Arrays
from mnist_cnn.plots import worst_mistakes
from tests.conftest import ROOT, succeed

PLOTS = {
    name: definition["title"]
    for plot in yaml.safe_load((ROOT / "dvc.yaml").read_text())["plots"]
    if isinstance(plot, dict)
    for name, definition in plot.items()
}


def test_the_most_confident_mistakes_come_first(arrays: Arrays) -> None:
    probabilities = np.full((20, 10), 0.01, np.float32)
    probabilities[range(20), arrays.labels] = 0.9
    probabilities[3] = np.eye(10)[7] * 0.8
    probabilities[14] = np.eye(10)[0] * 0.95
    figure = worst_mistakes(arrays.images, scoring.predictions(arrays.labels, probabilities))
    drawn = [axes for axes in figure.axes if axes.images]
    assert [axes.get_title() for axes in drawn] == [
        "4 read as 0\n95.0%, image 14",
        "3 read as 7\n80.0%, image 3",
    ]
    for axes, index in zip(drawn, (14, 3), strict=True):
        drawn_image = np.asarray(axes.images[0].get_array())
        np.testing.assert_array_equal(drawn_image, arrays.images[index, ..., 0])


def test_a_picture_without_mistakes_can_be_drawn(arrays: Arrays, tmp_path: Path) -> None:
    probabilities = np.eye(10, dtype=np.float32)[arrays.labels]
    figure = worst_mistakes(arrays.images, scoring.predictions(arrays.labels, probabilities))
    figure.savefig(tmp_path / "none.png")


def test_the_page_shows_every_plot_and_loads_everything(pipeline: Path) -> None:
    printed = succeed(pipeline, "dvc", "plots", "show")
    assert "failed" not in printed
    page = (pipeline / "dvc_plots/index.html").read_text()
    assert "worst_mistakes.png" in page
    for title in PLOTS.values():
        assert title in page


@pytest.mark.parametrize("name", PLOTS)
def test_a_plot_can_be_drawn_and_shows_the_data(pipeline: Path, name: str) -> None:
    text = succeed(pipeline, "dvc", "plots", "show", "--show-vega", name)
    assert "DVC_METRIC" not in text
    spec = json.loads(text)
    columns = set(spec["data"]["values"][0]) | set(strings(spec, "as"))
    assert {"rev"} < set(strings(spec, "field")) <= columns
    assert PLOTS[name] in vl_convert.vegalite_to_svg(text)


def strings(spec: object, key: str) -> Iterator[str]:
    """All strings that stand under `key` anywhere in a Vega-Lite specification but its data."""
    if isinstance(spec, dict):
        for name, value in spec.items():
            if name == key and isinstance(value, str):
                yield value
            elif name != "values":
                yield from strings(value, key)
    elif isinstance(spec, list):
        for entry in spec:
            yield from strings(entry, key)
