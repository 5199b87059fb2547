"""The plots on the pages of `dvc plots show` and `dvc plots diff`."""

import json
import re
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pandas as pd
import pytest
import vl_convert
import yaml
from dvc_render import VegaRenderer  # type: ignore[import-untyped]
from playwright.sync_api import Browser, expect

from tests.helpers import ROOT, succeed

TEMPLATES = ROOT / ".dvc/plots"
PLOTS: dict[str, dict[str, Any]] = {
    name: properties
    for stage in yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].values()
    for plot in stage.get("plots", [])
    for name, properties in plot.items()
}
TABLES = [name for name in PLOTS if name.endswith(".csv")]
SVG = "{http://www.w3.org/2000/svg}"
# Each has a special meaning in HTML, JavaScript, Vega or CSV.
NAMES = ['"quoted"', "$x", "a,b", "a.b[0]", "a\\b", "null", "true", "<b>bold</b>", "É", "日本"]


@pytest.fixture(scope="module")
def pages(pipeline: Path) -> dict[str, Path]:
    """The pages of `dvc plots show`, and of `dvc plots diff` of two revisions."""
    succeed(pipeline, "dvc", "plots", "show", "--out", "show")
    training = pipeline / "metrics/training.csv"
    pd.read_csv(training).head(1).to_csv(training, index=False)
    succeed(pipeline, "dvc", "plots", "diff", "HEAD", "--out", "diff")
    return {command: pipeline / command / "index.html" for command in ("show", "diff")}


def test_the_committed_page_is_the_one_that_the_installed_version_makes() -> None:
    made = runpy.run_path(str(TEMPLATES / "page.py"))["page"]()
    committed = (TEMPLATES / "page.html").read_text(encoding="utf-8")
    assert committed == made, "run `.venv/bin/python .dvc/plots/page.py`"


@pytest.mark.parametrize("command", ["show", "diff"])
def test_every_plot_is_drawn_once_without_a_network(
    browser: Browser, pages: dict[str, Path], command: str
) -> None:
    context = browser.new_context(offline=True)
    tab = context.new_page()
    requests: list[str] = []
    errors: list[str] = []
    tab.on("request", lambda request: requests.append(request.url))
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.on("console", lambda message: errors.append(message.text))
    tab.goto(pages[command].as_uri())
    expect(tab.locator("svg.marks")).to_have_count(len(TABLES), timeout=20_000)
    divs = tab.locator("body > div")
    assert sorted(div.get_attribute("id") or "" for div in divs.all()) == sorted(
        re.sub(r"\W", "_", name) for name in PLOTS
    )
    for drawing in tab.locator("svg.marks, img").all():
        box = drawing.bounding_box()
        assert box and box["width"] > 100 and box["height"] > 100
    for image in tab.locator("img").all():
        assert image.evaluate("image => image.naturalWidth") > 100
    assert requests and all(url.startswith("file:") for url in requests)
    assert not errors
    context.close()


@pytest.mark.parametrize("name", TABLES)
def test_a_plot_shows_its_title_and_fields_of_the_data(pages: dict[str, Path], name: str) -> None:
    spec = spec_of(pages["show"], name)
    assert "DVC_METRIC" not in json.dumps(spec)
    columns = set(spec["data"]["values"][0]) | set(strings(spec, "as"))
    assert {"rev"} < set(strings(spec, "field")) <= columns
    title = PLOTS[name]["title"]
    assert title in texts(spec)


@pytest.mark.parametrize("name", TABLES)
def test_a_plot_tells_revisions_apart(pages: dict[str, Path], name: str) -> None:
    assert {"HEAD", "workspace"} <= set(texts(spec_of(pages["diff"], name)))


@pytest.mark.parametrize(
    "classes",
    [
        [str(number) for number in range(60)],
        sorted(f"{name} {n}" for n in range(6) for name in NAMES),
    ],
    ids=["numbers", "names"],
)
def test_every_axis_shows_all_of_many_classes_in_order(classes: list[str]) -> None:
    for name, table in tables_of(classes).items():
        rows = [row | {"rev": rev} for rev in ("one", "two") for row in table]
        renderer = VegaRenderer(rows, name, **PLOTS[name], template_dir=TEMPLATES)
        svg = ElementTree.fromstring(vl_convert.vegalite_to_svg(renderer.get_filled_template()))
        axes = [
            [text.text or "" for text in group.iter(SVG + "text")]
            for group in svg.iter(SVG + "g")
            if "role-axis-label" in group.get("class", "")
        ]
        # The confusion matrix has one axis of actual classes, and one of predicted per revision.
        assert axes.count(classes) == (3 if "confusion" in name else 1), name


def tables_of(classes: list[str]) -> dict[str, list[dict[str, str]]]:
    """Return the tables with classes. Each is predicted correctly 9 times and wrongly once."""
    others = classes[::-1]
    return {
        "metrics/data.csv": [
            {"class": name, "train": "80", "validation": "9", "test": "10"} for name in classes
        ],
        "metrics/classification_report.csv": [{"class": name, "recall": "0.9"} for name in classes],
        "metrics/confusion_matrix.csv": [
            {"actual": actual, "predicted": predicted, "count": count}
            for actual, other in zip(classes, others, strict=True)
            for predicted, count in ((other, "1"), (actual, "9"))
        ],
        "metrics/misclassified.csv": [
            {"index": "7", "actual": actual, "predicted": other, "confidence": "0.7"}
            for actual, other in zip(others, classes, strict=True)
        ],
    }


def spec_of(page: Path, name: str) -> dict[str, Any]:
    """Return the Vega-Lite specification of a plot on a page."""
    plot = re.sub(r"\W", "_", name)
    pattern = rf"var spec = (\{{.*\}});\s*vegaEmbed\('#{plot}', spec\)"
    found = re.search(pattern, page.read_text(encoding="utf-8"))
    assert found
    spec: dict[str, Any] = json.loads(found[1])
    return spec


def texts(spec: dict[str, Any]) -> list[str | None]:
    """Return all texts in the drawing of a specification."""
    svg = ElementTree.fromstring(vl_convert.vegalite_to_svg(spec))
    return [text.text for text in svg.iter(SVG + "text")]


def strings(spec: object, key: str) -> Iterator[str]:
    """Yield all strings under `key` in a specification, except in its data."""
    if isinstance(spec, dict):
        for name, value in spec.items():
            if name == key:
                yield from [value] if isinstance(value, str) else value
            elif name != "values":
                yield from strings(value, key)
    elif isinstance(spec, list):
        for entry in spec:
            yield from strings(entry, key)
