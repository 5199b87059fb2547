"""What DVC writes to params.yaml for recipes and values given to `dvc exp run`."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.utils.hydra import compose_and_dump

from mnist_cnn.params import check_image_size, load_params
from tests.helpers import ROOT, run, set_params

RECIPES = sorted(path.stem for path in (ROOT / "recipes").glob("*.yaml"))


def leaves(section: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    for name, value in section.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def compose(folder: Path, *overrides: str, config: Path = ROOT) -> dict[str, object]:
    """Return what `dvc exp run` writes to params.yaml, using the same function."""
    output = folder / "composed.yaml"
    compose_and_dump(output, str(config), None, "params", str(config), list(overrides))
    params = load_params(output)
    check_image_size(params, *params.prepare.image_size or (28, 28))
    return dict(leaves(yaml.safe_load(output.read_text())))


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_lists_what_differs_and_nothing_else(name: str, tmp_path: Path) -> None:
    recipe = dict(leaves(yaml.safe_load((ROOT / f"recipes/{name}.yaml").read_text())))
    default, composed = compose(tmp_path), compose(tmp_path, f"+recipes={name}")
    assert composed == default | recipe
    assert {key for key in default if composed[key] != default[key]} == set(recipe)


def test_the_parameters_are_written_as_dvc_writes_them(tmp_path: Path) -> None:
    """Otherwise the first experiment would rewrite the whole file."""
    compose(tmp_path)
    assert (tmp_path / "composed.yaml").read_text() == (ROOT / "params.yaml").read_text()


def test_edits_of_params_yaml_are_kept(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "recipes", tmp_path / "recipes")
    shutil.copy(ROOT / "params.yaml", tmp_path)
    set_params(tmp_path, model={"dropout": 0.5})
    default = compose(tmp_path)
    composed = compose(tmp_path, "+recipes=baseline", "train.seed=5", config=tmp_path)
    assert composed["model.dropout"] == 0.5 != default["model.dropout"]
    assert composed["train.seed"] == 5 != default["train.seed"]
    assert composed["train.translation"] == 0 != default["train.translation"]


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("+recipes=nosuch", "Could not find 'recipes/nosuch'"),
        ("train.epoch=1", "Key 'epoch' is not in struct"),
    ],
)
def test_a_wrong_recipe_or_key_fails_before_anything_runs(
    clone: Path, override: str, complaint: str
) -> None:
    done = run(clone, "dvc", "exp", "run", "--set-param", override)
    assert done.returncode != 0
    assert complaint in done.stderr
    assert "Running stage" not in done.stdout
    assert "Traceback" not in done.stderr
