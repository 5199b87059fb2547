"""The schema of `params.yaml`: what each hyperparameter means and which values it can have."""

import re
import reprlib
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from ruamel.yaml import YAML

from mnist_cnn.errors import InputError, describe_exception

PARAMS_PATH = Path("params.yaml")

# Each range, with the words for it in error messages.
Seed = Annotated[int, Field(ge=0, lt=2**31), "an integer from 0 to 2147483647"]
Count = Annotated[int, Field(ge=1, le=65536), "an integer from 1 to 65536"]
Units = Annotated[int, Field(ge=1, le=4096), "an integer from 1 to 4096"]
Pixels = Annotated[int, Field(ge=1, le=1024), "an integer from 1 to 1024"]
OptionalPixels = Annotated[Pixels | None, "an integer from 1 to 1024, or left out"]
Share = Annotated[float, Field(ge=0, lt=1), "a number from 0 to less than 1"]
OpenShare = Annotated[float, Field(gt=0, lt=1), "a number between 0 and 1"]
Bounds = Annotated[dict[str, float], "a mapping from metrics to numbers"]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class PrepareParams(_Section):
    # A name, not a path: data/raw/NAME is a dependency in dvc.yaml.
    source: Annotated[str, Field(pattern=r"^\w[\w. -]*$"), "mnist or a name in data/raw"] = Field(
        description="the dataset: MNIST, or what lies in `data/raw` under that name"
    )
    test_split: OpenShare = Field(
        description="share of each class's images held out for the test, if the source has none"
    )
    remove_leaked: Annotated[bool, "true or false"] = Field(
        description="leave out training images that are in the test set too"
    )
    validation_split: OpenShare = Field(
        description="share of each class's training images held out for validation"
    )
    seed: Seed = Field(description="decides which images are held out")


class ConvolutionParams(_Section):
    filters: Units = Field(description="output channels")
    kernel_size: Pixels = Field(description="height and width of the kernel in pixels")
    # What a value that is left out means is up to build_network: the stages that depend on that
    # must run again when it changes.
    strides: OptionalPixels = Field(default=None, description="step of the kernel in pixels, or 1")
    pool_size: OptionalPixels = Field(
        default=None, description="size and step of the max-pooling that follows, if any"
    )


class ModelParams(_Section):
    convolutions: Annotated[list[ConvolutionParams], "a list of one or more mappings"] = Field(
        min_length=1, description="one entry per convolution, from the image inwards"
    )
    batch_normalization: Annotated[bool, "true or false"] = Field(
        description="normalise what each pooling and the hidden dense layer give, before its ReLU"
    )
    dropout: Share = Field(
        description="share of the flattened features dropped in training, to the nearest 256th"
    )
    dense_units: Units = Field(description="width of the hidden dense layer")


class TrainParams(_Section):
    seed: Seed = Field(description="decides initialisation, data order, dropout and augmentation")
    epochs: Count = Field(description="passes over the training images")
    batch_size: Count = Field(description="images per step; an incomplete last batch is left out")
    learning_rate: Annotated[float, Field(gt=0, le=1), "a number above 0, at most 1"] = Field(
        description="Adam's highest learning rate"
    )
    final_learning_rate: Annotated[float, Field(ge=0, le=1), "a number from 0 to 1"] = Field(
        description="the rate after the last step, reached along half a cosine"
    )
    warmup: Share = Field(description="share of the steps in which the rate climbs from 0")
    label_smoothing: Share = Field(
        description="share of each label spread evenly over all classes in the training loss"
    )
    rotation: Annotated[float, Field(ge=0, le=180), "a number from 0 to 180"] = Field(
        description="augmentation: largest random rotation of a training image in degrees"
    )
    zoom: Share = Field(
        description="augmentation: largest random zoom, of height and of width; 0.2 scales them by "
        "1/1.2 to 1/0.8"
    )
    shear: Share = Field(
        description="augmentation: largest random shift of a row, as a share of its distance from "
        "the centre"
    )
    translation: Annotated[float, Field(ge=0, le=1024), "a number from 0 to 1024"] = Field(
        description="augmentation: largest random shift, across and down, in pixels"
    )
    shards: Annotated[int, Field(ge=1, le=256), "an integer from 1 to 256"] = Field(
        description="equal parts of a batch that are computed at once, each on a core of its own"
    )


class EvaluateParams(_Section):
    calibration_bins: Count = Field(
        description="equal-width confidence bins of the expected calibration error"
    )


class GateParams(_Section):
    floors: Bounds = Field(description="lowest passing values, by name of the metric")
    ceilings: Bounds = Field(description="highest passing values, by name of the metric")
    tolerated_drop: Share = Field(
        description="share of the test images by which a model may fall behind the baseline"
    )
    significance_level: OpenShare = Field(
        description="a larger drop fails if the probability of one by chance is below this"
    )


class Params(_Section):
    prepare: PrepareParams = Field(description="source and split of the data")
    model: ModelParams = Field(description="the network")
    train: TrainParams = Field(description="the optimisation")
    evaluate: EvaluateParams = Field(description="the test")
    gate: GateParams = Field(description="the check on the metrics")


def load_params(path: Path = PARAMS_PATH) -> Params:
    """Read and validate every section of `params.yaml`.

    Raises:
        InputError: the file is missing or not YAML, or keys are unknown, missing, of a wrong type
            or out of range: one line for each such key, with its value and what is allowed.
    """
    try:
        content = YAML(typ="safe", pure=True).load(path.read_bytes())  # as DVC reads it
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror}): "
            f"expected the hyperparameters; `git restore {path}` brings back the committed ones"
        ) from error
    except Exception as error:  # a malformed file can raise anything
        problem = describe_exception(error)
        raise InputError(f"{path} is not YAML ({problem}): fix the line it names") from error
    try:
        return Params.model_validate(content)
    except ValidationError as error:
        lines = (
            f"{path}: {_describe_error(e['type'], e['loc'], e['input'])}" for e in error.errors()
        )
        raise InputError("\n".join(lines)) from error


def _describe_error(kind: str, location: tuple[int | str, ...], value: object) -> str:
    section: Any = Params
    allowed = meaning = ""
    for name in location:
        fields = getattr(section, "model_fields", {})
        siblings = ", ".join(fields)
        if name in fields:
            field = fields[name]
            meaning = f" ({field.description})"
            allowed = next((m for m in field.metadata if isinstance(m, str)), "")
            section = ConvolutionParams if name == "convolutions" else field.annotation
        elif isinstance(name, int):
            allowed = meaning = ""
        elif section == dict[str, float]:
            allowed = "a number"
    if not allowed:
        allowed = f"a mapping with the keys {', '.join(section.model_fields)}"
    key = re.sub(r"\.(\d+)", r"[\1]", ".".join(map(str, location))) or "the file"
    key, found = " ".join(key.split()), reprlib.repr(value)
    if kind in ("extra_forbidden", "invalid_key"):
        return f"{key} is not a parameter: its value is {found}, expected one of {siblings}"
    if kind == "missing":
        return f"{key} is missing: expected {allowed}{meaning}"
    return f"{key} is {found}: expected {allowed}{meaning}"


def check_image_size(params: Params, height: int, width: int) -> None:
    """Check that images of `height` x `width` pixels are large enough for the augmentation and for
    each convolution and pooling.

    Raises:
        InputError: a shift could move the whole image out, or a kernel or a pooling is larger than
            its input.
    """
    if params.train.translation >= min(height, width):
        raise InputError(
            f"{PARAMS_PATH}: train.translation is {params.train.translation}: "
            f"expected less than {min(height, width)}, as images have {height} x {width} pixels"
        )
    for i, convolution in enumerate(params.model.convolutions):
        for name in ("kernel_size", "pool_size"):
            size = getattr(convolution, name) or 1
            if size > min(height, width):
                raise InputError(
                    f"{PARAMS_PATH}: model.convolutions[{i}].{name} is {size}: expected at most "
                    f"{min(height, width)}, as its input has {height} x {width} pixels"
                )
            step = (convolution.strides or 1) if name == "kernel_size" else size
            height, width = (height - size) // step + 1, (width - size) // step + 1
