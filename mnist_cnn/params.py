"""The schema of `params.yaml`: what each hyperparameter means and which values are allowed."""

import re
import reprlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent

from mnist_cnn.errors import InputError, describe_exception, printable, warn
from mnist_cnn.files import read_limited

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

PARAMS_PATH = Path("params.yaml")
MAX_YAML = 100_000  # bytes, which take 3 s to parse
MAX_ALIASES = 10  # each may double what the file stands for
MAX_DEPTH = 50
MAX_PROBLEMS = 10
MAX_TEXT = 200  # characters of a key or problem in a message
MANY_WEIGHTS = 5_000_000
EXPORT_BYTES = 200  # of memory per weight; measured for images of 224 x 224 pixels

Seed = Annotated[int, Field(ge=0, lt=2**31)]
Count = Annotated[int, Field(ge=1, le=65536)]
Units = Annotated[int, Field(ge=1, le=4096)]
Pixels = Annotated[int, Field(ge=1, le=1024)]
Share = Annotated[float, Field(ge=0, lt=1)]
OpenShare = Annotated[float, Field(gt=0, lt=1)]


Schema = TypeVar("Schema", bound="Section")


class Section(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )


class PrepareParams(Section):
    source: Annotated[str, Field(pattern=r"^\w[\w. -]*$")]
    """the dataset: `mnist`, or the name of a file or folder in `data/raw`"""
    image_size: Annotated[list[Pixels], Field(min_length=2, max_length=2)] | None
    """height and width in pixels that images are scaled to; as they are, if null"""
    resizing: Literal["pad", "crop"]
    """how to keep the aspect ratio: fill up with the colour of the border, or cut off two sides"""
    color_mode: Literal["grayscale", "rgb"] | None
    """colours that images are converted to; as they are, if null"""
    skip_unreadable: bool
    """leave out pictures that can't be read, instead of failing"""
    test_split: OpenShare
    """fraction of each class held out as the test set, if the source has none"""
    remove_leaked: bool
    """remove training images that are also in the test set"""
    validation_split: OpenShare
    """fraction of each class's training images held out for validation, if the source has none"""
    minimum_per_class: Count
    """smallest number of images of each class to hold out, whatever the fractions"""
    seed: Seed
    """random seed that selects the held-out images"""


class ConvolutionParams(Section):
    filters: Units
    """number of output channels"""
    kernel_size: Pixels
    """height and width of the kernel in pixels"""
    # The defaults are in build_network, so that changing them makes the stages stale.
    strides: Pixels | None = None
    """stride of the kernel in pixels; 1 if omitted"""
    pool_size: Pixels | None = None
    """size and stride of the max pooling that follows; no pooling if omitted"""


class ModelParams(Section):
    convolutions: Annotated[list[ConvolutionParams], Field(min_length=1)]
    """one entry per convolution, from input to output"""
    batch_normalization: bool
    """normalise the outputs of each pooling and of the hidden dense layer, before the ReLU"""
    global_average_pooling: bool
    """average each channel instead of flattening them; needs far fewer weights for large images"""
    dropout: Share
    """fraction of the flattened features to drop in training, rounded to 1/256"""
    dense_units: Units
    """number of units in the hidden dense layer"""


class TrainParams(Section):
    seed: Seed
    """random seed for initialisation, data order, dropout and augmentation"""
    epochs: Count
    """number of times that the network is validated and saved"""
    steps_per_epoch: Annotated[int, Field(ge=1, le=2**20)] | None
    """steps from one validation to the next, over as many passes as it takes; one pass, if null"""
    batch_size: Count
    """images per step; an incomplete last batch of a pass is dropped"""
    learning_rate: Annotated[float, Field(gt=0, le=1)]
    """Adam's peak learning rate"""
    final_learning_rate: Annotated[float, Field(ge=0, le=1)]
    """learning rate after the last step, reached by cosine decay"""
    warmup: Share
    """fraction of the steps over which the learning rate rises linearly from 0"""
    label_smoothing: Share
    """fraction of each label spread evenly over all classes in the training loss"""
    rotation: Annotated[float, Field(ge=0, le=180)]
    """augmentation: maximum random rotation in degrees"""
    zoom: Share
    """augmentation: maximum random zoom of height and width; 0.2 scales by 1/1.2 to 1/0.8"""
    shear: Share
    """augmentation: maximum random shift of a row, as a fraction of its distance to the centre"""
    translation: Annotated[float, Field(ge=0, le=1024)]
    """augmentation: maximum random shift in pixels, horizontally and vertically"""
    horizontal_flip: bool
    """augmentation: mirror half of the images, left to right"""
    class_weight: Literal["balanced"] | None
    """weigh all classes alike in the training loss; if null, all images alike"""
    shards: Annotated[int, Field(ge=1, le=256)]
    """number of equal parts of a batch, computed in parallel, one per core; divides `batch_size`"""


class EvaluateParams(Section):
    calibration_bins: Count
    """number of equal-width confidence bins for the expected calibration error"""


class LimitParams(Section):
    floors: dict[str, float]
    """lowest passing value of each metric"""
    ceilings: dict[str, float]
    """highest passing value of each metric"""


class GateParams(Section):
    limits: dict[str, LimitParams]
    """limits for each dataset, by its name in `prepare.source`; a dataset may have none"""
    tolerated_drop: Share
    """accuracy by which a model may fall behind the baseline"""
    significance_level: OpenShare
    """a drop larger than tolerated fails if its p-value is below this"""


class Params(Section):
    prepare: PrepareParams
    model: ModelParams
    train: TrainParams
    evaluate: EvaluateParams
    gate: GateParams


def load_params(path: Path = PARAMS_PATH) -> Params:
    """Read and validate every section of `params.yaml`.

    Raises:
        InputError: see `read_params`.
    """
    return read_params(path, Params)


def read_params(path: Path, schema: type[Schema]) -> Schema:
    """Read and validate the parameters in a YAML file.

    Raises:
        InputError: see `read_yaml`, or keys are unknown, missing, of the wrong type or out of
            range. The message has a line for each of the first MAX_PROBLEMS keys, with its value
            and what is allowed.
    """
    content = read_yaml(path)
    try:
        return schema.model_validate(content)
    except ValidationError as error:
        problems = error.errors()
        lines = [f"{path}: {_describe_error(each)}" for each in problems[:MAX_PROBLEMS]]
        if rest := len(problems) - len(lines):
            lines.append(f"{path}: and {rest:,} more")
        raise InputError("\n".join(lines)) from error


def read_yaml(path: Path) -> Any:
    """Read a YAML file as DVC does: as YAML 1.2, in which `010` is ten and `yes` is text.

    Raises:
        InputError: the file is missing, has more than MAX_YAML bytes or isn't what `parse_yaml`
            parses.
    """
    content = read_limited(path, MAX_YAML)
    try:
        return parse_yaml(content)
    except Exception as error:  # a malformed file can raise anything
        problem = _shorten(describe_exception(error))
        raise InputError(f"{path} is not YAML ({problem}): fix the line it names") from error


def parse_yaml(content: bytes) -> Any:
    """Parse at most MAX_YAML bytes. Raise any exception if they're malformed, nested more than
    MAX_DEPTH deep or have more than MAX_ALIASES aliases."""
    text = content.decode()
    yaml = YAML(typ="safe", pure=True)
    depth = aliases = 0
    for event in yaml.parse(text):
        depth += isinstance(event, CollectionStartEvent) - isinstance(event, CollectionEndEvent)
        aliases += isinstance(event, AliasEvent)
        if depth > MAX_DEPTH:
            raise ValueError(f"it is nested more than {MAX_DEPTH} deep")
        if aliases > MAX_ALIASES:
            raise ValueError(f"it has more than {MAX_ALIASES} aliases such as `*name`")
    return yaml.load(text)


def _shorten(text: str) -> str:
    text = printable(text)
    return f"{text[:MAX_TEXT]}..." if len(text) > MAX_TEXT else text


def _describe_error(error: "ErrorDetails") -> str:
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in error["loc"])
    key = _shorten("".join(parts).removeprefix(".")) or "the file"
    if error["type"] in ("extra_forbidden", "invalid_key"):
        return f"{key} is not a parameter: remove it, or correct its name"
    if error["type"] == "missing":
        return f"{key} is missing: add it"
    if key.endswith(".[key]"):
        return f"{key.removesuffix('.[key]')} is not named by text: put the name in quotes"
    message = re.sub("^(Input|String)", "it", error["msg"])
    try:
        value = reprlib.repr(error["input"])
    except ValueError:  # from Python 3.11, for an integer of thousands of digits
        value = "a huge number"
    return f"{key} is {value}: {message}"


def check_image_size(params: Params, height: int, width: int) -> None:
    """Check that images of `height` x `width` pixels are large enough for the augmentation and for
    each convolution and pooling. Warn if the hidden dense layer gets MANY_WEIGHTS.

    Raises:
        InputError: a shift could move the whole image out of view, or a kernel or pooling window is
            larger than its input.
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
    if params.model.global_average_pooling:
        height = width = 1
    features = params.model.convolutions[-1].filters * height * width
    weights = features * params.model.dense_units
    if weights >= MANY_WEIGHTS:
        warn(
            f"the hidden dense layer gets {features:,} values, so it has {weights:,} weights; "
            f"export will take {weights * EXPORT_BYTES / 1e9:.1f} GB of memory, training a quarter "
            "of that; for fewer, set model.global_average_pooling, or use more strides or poolings"
        )
