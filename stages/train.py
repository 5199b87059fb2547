"""Training and validation arrays -> the trained and calibrated network and its curves."""

import shutil
from pathlib import Path

import pandas as pd

from mnist_cnn.arrays import read_arrays
from mnist_cnn.checkpoint import Checkpoint, stage_key
from mnist_cnn.distribution import join, output_folder, read_cluster, reporting_lost_workers
from mnist_cnn.errors import InputError, reported
from mnist_cnn.files import replacing, restoring, write_csv, write_json
from mnist_cnn.params import check_image_fits, load_params

MODEL = Path("models/model.keras")
CURVES = Path("metrics/training.csv")
CALIBRATION = Path("metrics/calibration.json")
CHECKPOINT = Path("models/checkpoint.npz")  # not an output: it is there until they are complete


@reported
def main() -> None:
    params = load_params()
    cluster = read_cluster()
    train = read_arrays(Path("data/prepared/train.npz"))
    validation = read_arrays(Path("data/prepared/validation.npz"))
    image_shape = train.images.shape[1:]
    if validation.images.shape[1:] != image_shape:
        raise InputError(
            f"data/prepared/validation.npz holds images of shape {validation.images.shape[1:]}: "
            f"expected {image_shape}, as in train.npz; make both anew with "
            "`dvc repro --force prepare`"
        )
    check_image_fits(params, *image_shape[:2])

    # TensorFlow takes seconds to import: what can be refused is refused before.
    from mnist_cnn.network import build_network, make_deterministic, save_network
    from mnist_cnn.training import calibrate, fit

    make_deterministic(params.train.seed)
    key = stage_key("train")
    with reporting_lost_workers(), output_folder(cluster) as folder:
        strategy = join(cluster, key)
        network = build_network(params.model, image_shape, len(train.classes))
        checkpoint = Checkpoint(folder / CHECKPOINT, key)
        shown = folder / CURVES
        outputs = replacing(folder / MODEL, shown, folder / CALIBRATION)
        with outputs as (model, curves, calibration), restoring(shown):
            live = shown.with_suffix(".live.partial.csv")
            epochs = []
            for epoch in fit(network, train, validation, params.train, checkpoint, strategy):
                epochs.append(epoch)
                if cluster.is_chief:
                    line = "  ".join(f"{name} {value:.4g}" for name, value in epoch.items())
                    print(line, flush=True)
                write_csv(pd.DataFrame(epochs), curves)
                shutil.copyfile(curves, live)
                live.replace(shown)  # so that plots follow the training
            write_json({"temperature": calibrate(network, validation)}, calibration)
            save_network(network, model)
        checkpoint.path.unlink()


if __name__ == "__main__":
    main()
