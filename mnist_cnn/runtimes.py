"""A model file of any format -> what it answers."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mnist_cnn.errors import InputError, silenced
from mnist_cnn.files import digest
from mnist_cnn.stored import Images

Batch = npt.NDArray[np.float32]
Probabilities = npt.NDArray[np.float32]
Model = Callable[[Images], Probabilities]
BatchModel = Callable[[Batch], Probabilities]

CHECKSUMS = "SHA256SUMS"
BATCH_SIZE = 1000


def load_model(path: Path, image_shape: tuple[int, ...] = (28, 28, 1), classes: int = 10) -> Model:
    """The model of a `.onnx`, `.tflite` or `.keras` file or a SavedModel's folder, as a function
    from images float32 [N, *image_shape] in [0, 1] to probabilities float32 [N, classes]; by
    default those of MNIST.

    Where CHECKSUMS stands beside a file and names it, its digest is checked first.

    Raises:
        InputError: the file is missing, damaged, not the one of the checksum, or is made
            for other images or classes.
    """
    readers = {".onnx": _read_onnx, ".tflite": _read_litert, ".keras": _read_keras}
    if path.is_dir():
        reader = _read_saved_model
    elif path.suffix in readers:
        reader = readers[path.suffix]
    else:
        raise InputError(
            f"{path} is no model: expected a file {', '.join(readers)} or a SavedModel's folder"
        )
    if not path.exists():
        raise InputError(f"{path}: there is no such model; `dvc repro` makes models/model.onnx")
    _check_digest(path)
    try:
        with silenced():
            taken, model = reader(path)
            if tuple(taken) != image_shape:
                raise ValueError(f"it takes images {list(taken)}")
            answers = model(np.zeros((1, *image_shape), np.float32))
        if answers.shape != (1, classes):
            raise ValueError(f"it gives {answers.shape[-1]} probabilities")
    except InputError:
        raise
    except Exception as error:  # whatever a damaged file makes of the reader
        reason = " ".join(str(error).split())
        raise InputError(
            f"{path} is not usable ({reason}): expected one that takes images "
            f"{list(image_shape)} and gives {classes} probabilities; make it with `dvc repro`"
        ) from error

    def in_batches(images: Images) -> Probabilities:
        starts = range(0, len(images), BATCH_SIZE)
        return np.concatenate([model(images[start : start + BATCH_SIZE]) for start in starts])

    return in_batches


def _check_digest(path: Path) -> None:
    sums = path.with_name(CHECKSUMS)
    lines = sums.read_text(encoding="utf-8").splitlines() if sums.exists() else []
    expected = {name: value for value, name in (line.split(maxsplit=1) for line in lines)}
    if path.name in expected and digest(path) != expected[path.name]:
        raise InputError(
            f"{path} does not match its checksum in {sums}: "
            "make both anew with `dvc repro --force export`"
        )


# A reader gives the shape of an image, [H, W, C], and the model.


def _read_onnx(path: Path) -> tuple[list[int], BatchModel]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (source,) = session.get_inputs()

    def model(images: Batch) -> Probabilities:
        (probabilities,) = session.run(None, {source.name: images})
        return np.asarray(probabilities)

    return source.shape[1:], model


def _read_litert(path: Path) -> tuple[list[int], BatchModel]:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=1)
    (source,), (target,) = interpreter.get_input_details(), interpreter.get_output_details()

    def model(images: Batch) -> Probabilities:
        interpreter.resize_tensor_input(source["index"], images.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(source["index"], images)
        interpreter.invoke()
        return np.array(interpreter.get_tensor(target["index"]))

    return source["shape"][1:].tolist(), model


def _read_keras(path: Path) -> tuple[list[int], BatchModel]:
    from mnist_cnn.network import load_network, predict

    network = load_network(path)
    return network.input_shape[1:], lambda images: predict(network, images, BATCH_SIZE)


def _read_saved_model(path: Path) -> tuple[list[int], BatchModel]:
    import tensorflow as tf

    serve = tf.saved_model.load(path).signatures["serving_default"]
    (source,) = serve.structured_input_signature[1].values()

    def model(images: Batch) -> Probabilities:
        (probabilities,) = serve(tf.constant(images)).values()
        return np.asarray(probabilities)

    return source.shape[1:].as_list(), model
