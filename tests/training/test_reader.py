"""Train the reader's network on a few examples."""

import shutil
from pathlib import Path

import numpy as np
from ruamel.yaml import YAML

from mnist_cnn.reading.reader import READER, READER_INTERFACE, load_reader
from tests.helpers import ROOT, succeed


def test_the_second_pipeline_writes_the_packaged_network(clone: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(clone, tmp_path / "clone")
    path = folder / READER.relative_to(ROOT)
    before = path.read_bytes()
    yaml = YAML()
    params = yaml.load(folder / "reader/params.yaml")
    params["examples"]["counts"] = dict.fromkeys(params["examples"]["counts"], 60)
    params["train"] |= {"epochs": 3, "batch_size": 32}
    yaml.dump(params, folder / "reader/params.yaml")
    succeed(folder, "dvc", "repro", "reader/dvc.yaml", PYTHONPATH=str(folder))
    assert path.read_bytes() != before
    shape, classes = READER_INTERFACE
    assert load_reader(path)(np.zeros((2, *shape), np.float32)).shape == (2, classes)
