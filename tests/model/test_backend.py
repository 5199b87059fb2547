"""TensorFlow is configured and imported in a single module."""

import ast
import sys
from pathlib import Path

from tests.helpers import ROOT, run, succeed

BACKEND = Path("mnist_cnn/model/backend.py")
SAVED_MODEL = Path("mnist_cnn/model/formats/saved_model.py")
UNSET = {"TF_ENABLE_ONEDNN_OPTS": "0", "ONEDNN_MAX_CPU_ISA": "DEFAULT"}


def imports(path: Path) -> list[str]:
    """Return the modules that a file imports, in line order."""
    names = []
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            names += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names.append((node.lineno, node.module or ""))
    return [name for _, name in sorted(names)]


def test_no_other_module_imports_tensorflow_or_keras() -> None:
    found = {}
    for folder in ("mnist_cnn", "stages"):
        for file in (ROOT / folder).rglob("*.py"):
            path = file.relative_to(ROOT)
            names = [
                name for name in imports(path) if name.split(".")[0] in ("keras", "tensorflow")
            ]
            if names:
                found[path] = names
    assert found.pop(BACKEND) == ["keras", "tensorflow"]
    # It imports only submodules, after the backend.
    names = found.pop(SAVED_MODEL)
    assert all(name.startswith("tensorflow.") for name in names)
    order = imports(SAVED_MODEL)
    assert order.index("mnist_cnn.model.backend") < min(map(order.index, names))
    assert not found


def test_importing_training_alone_configures_tensorflow_and_all_of_keras() -> None:
    code = """if True:
        import os
        import mnist_cnn.training.fit
        from mnist_cnn.model.backend import keras, tf
        import numpy as np
        from tensorflow.python.framework.config import is_op_determinism_enabled

        assert os.environ["TF_ENABLE_ONEDNN_OPTS"] == "1"
        assert os.environ["ONEDNN_MAX_CPU_ISA"] == "AVX2"
        assert tf.config.threading.get_intra_op_parallelism_threads() == 1
        assert is_op_determinism_enabled()
        images = np.zeros((4, 8, 8, 1))
        keras.visualization.plot_image_gallery(images, rows=2, cols=2, show=False)
    """
    succeed(ROOT, sys.executable, "-c", code, **UNSET)


def test_formats_import_tensorflow_only_when_they_need_it() -> None:
    code = "import sys, mnist_cnn.model.formats; assert 'tensorflow' not in sys.modules"
    succeed(ROOT, sys.executable, "-c", code)


def test_tensorflow_imported_earlier_without_the_settings_is_an_error() -> None:
    code = """if True:
        import sys
        sys.modules["tensorflow"] = sys  # as if it had been imported
        import mnist_cnn.training.fit
    """
    for changes in ({"ONEDNN_MAX_CPU_ISA": "AVX2"}, {"TF_ENABLE_ONEDNN_OPTS": "1"}):
        done = run(ROOT, sys.executable, "-c", code, **UNSET | changes)
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1] == (
            "ImportError: TensorFlow was imported before mnist_cnn.model.backend and without its "
            "settings, so results would differ: import mnist_cnn.model.backend first, or set "
            "TF_ENABLE_ONEDNN_OPTS=1 ONEDNN_MAX_CPU_ISA=AVX2 before Python starts"
        )
