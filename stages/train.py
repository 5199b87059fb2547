"""Train and calibrate the network, and write its learning curves."""

from pathlib import Path

import pandas as pd

from mnist_cnn.data.arrays import Arrays, read_arrays
from mnist_cnn.errors import InputError, report_errors
from mnist_cnn.files import write_atomically, write_csv, write_json
from mnist_cnn.model.formats import FORMATS, keras
from mnist_cnn.model.formats.base import Metadata
from mnist_cnn.params import PrepareParams, check_image_size, load_params
from mnist_cnn.training.checkpoint import Checkpoint, stage_key
from mnist_cnn.training.cluster import read_cluster, worker_folder

CURVES = Path("metrics/training.csv")
CALIBRATION = Path("metrics/calibration.json")
CHECKPOINT = Path("models/checkpoint.npz")  # not an output: removed when training is complete


@report_errors
def main() -> None:
    params = load_params()
    cluster = read_cluster()
    train = read_arrays(Path("data/prepared/train.npz"))
    validation = read_arrays(Path("data/prepared/validation.npz"))
    image_shape = train.images.shape[1:]
    if validation.images.shape[1:] != image_shape:
        raise InputError(
            f"data/prepared/validation.npz holds images of shape {validation.images.shape[1:]}: "
            f"expected {image_shape}, as in train.npz; recreate both with "
            "`dvc repro --force prepare`"
        )
    check_image_size(params, *image_shape[:2])

    # Importing TensorFlow takes seconds, so the input is checked first.
    from mnist_cnn.model.backend import set_seed
    from mnist_cnn.model.network import build_network
    from mnist_cnn.training.calibration import calibrate
    from mnist_cnn.training.distribution import create_strategy, report_lost_workers
    from mnist_cnn.training.fit import fit

    key = stage_key("train")
    with report_lost_workers(), worker_folder(cluster) as folder:
        strategy = create_strategy(cluster, key)
        set_seed(params.train.seed)
        network = build_network(params.model, image_shape, len(train.classes))
        checkpoint = Checkpoint(folder / CHECKPOINT, key)
        history = checkpoint.history()
        if history:
            print(f"resumed after epoch {len(history)}", flush=True)
            write_csv(pd.DataFrame(history), folder / CURVES)
        for epoch in fit(network, train, validation, params.train, checkpoint, strategy):
            history.append(epoch)
            if cluster.is_chief:
                print("  ".join(f"{name} {value:.4g}" for name, value in epoch.items()), flush=True)
            write_csv(pd.DataFrame(history), folder / CURVES)  # so plots can follow the training
        temperature = calibrate(network, validation)
        write_json({"temperature": temperature}, folder / CALIBRATION)
        metadata = describe_images(params.prepare, train, temperature)
        with write_atomically(folder / FORMATS["keras"].path) as partial:
            keras.write(network, partial, metadata=metadata)
        checkpoint.path.unlink(missing_ok=True)


def describe_images(params: PrepareParams, train: Arrays, temperature: float) -> Metadata:
    height, width, channels = train.images.shape[1:]
    is_mnist = params.source == "mnist" and (height, width, channels) == (28, 28, 1)
    return Metadata(
        classes=train.classes.tolist(),
        input="digit" if is_mnist else "picture",
        resizing=params.resizing,
        image_size=[height, width],
        color_mode="grayscale" if channels == 1 else "rgb",
        temperature=temperature,
    )


if __name__ == "__main__":
    main()
