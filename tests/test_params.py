import re
from pathlib import Path

import pytest
import yaml
from dvc.utils.serialize import load_yaml

from mnist_cnn.errors import InputError
from mnist_cnn.params import ConvolutionParams, Params, check_image_size, load_params, read_yaml
from tests.helpers import PARAMS, PARAMS_TEXT, ROOT

MERGES = "m0: &m0 {x: 1}\n" + "".join(
    f"m{i}: &m{i}\n  <<: [{', '.join([f'*m{i - 1}'] * 10)}]\n" for i in range(1, 9)
)


def load_changed(tmp_path: Path, old: str, new: str) -> None:
    assert old in PARAMS_TEXT
    path = tmp_path / "params.yaml"
    path.write_text(PARAMS_TEXT.replace(old, new, 1), errors="surrogateescape")
    load_params(path)


def test_the_parameters_of_the_repository_are_valid() -> None:
    path = ROOT / "params.yaml"
    assert load_params(path).train.model_dump() == yaml.safe_load(path.read_text())["train"]


def test_a_float_as_dvc_writes_it_is_a_float(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(re.sub(r" learning_rate: .*", " learning_rate: 1e-05", PARAMS_TEXT))
    assert load_params(path).train.learning_rate == 1e-05


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("epochs: 3", "epochs: 0", "train.epochs is 0: it should be greater than or equal to 1"),
        ("epochs: 3", "epochs: '3'", "train.epochs is '3': it should be a valid integer"),
        ("epochs: 3", "epochs: true", "train.epochs is True: it should be a valid integer"),
        ("epochs: 3", "epochs: 3.5", "train.epochs is 3.5: it should be a valid integer"),
        ("  epochs: 3\n", "", "train.epochs is missing"),
        ("warmup: 0.1", "warmup: 1", "train.warmup is 1: it should be less than 1"),
        ("warmup: 0.1", "warmup: .nan", "train.warmup is nan: it should be a finite number"),
        ("dropout: 0.2", "dropout:", "model.dropout is None: it should be a valid number"),
        (
            "normalization: false",
            "normalization: 0",
            "model.batch_normalization is 0: it should be a valid boolean",
        ),
        ("filters: 32", "filters: -1", "model.convolutions[0].filters is -1: it should be greater"),
        ("filters: 32", "filter: 32", "model.convolutions[0].filter is not a parameter"),
        ("source: mnist", "source: ../m", "prepare.source is '../m': it should match pattern"),
        ("seed: 42", "sead: 42", "prepare.sead is not a parameter: remove it, or correct its name"),
        ("evaluate:", "evaluation:", "evaluate is missing"),
        (PARAMS_TEXT, "", "the file is None: it should be a valid dictionary"),
        (PARAMS_TEXT, "- 1", "the file is [1]: it should be a valid dictionary"),
        (PARAMS_TEXT, "train: [", "is not YAML"),
        (PARAMS_TEXT, "\0", "is not YAML"),
        (PARAMS_TEXT, "[" * 50_000, "is not YAML (it is nested more than 50 deep)"),
        (
            PARAMS_TEXT,
            f"#{'x' * 100_000}",
            "cannot be read (it has 100,001 bytes): expected a file",
        ),
        (PARAMS_TEXT, MERGES, "is not YAML (it has more than 10 aliases such as `*name`)"),
        (PARAMS_TEXT, "é".encode("latin-1").decode("utf-8", "surrogateescape"), "is not YAML"),
        ("epochs: 3", "epochs: 2024-13-01", "is not YAML (month must be in 1..12)"),
        ("epochs: 3", "epochs: 3\n  epochs: 4", 'found duplicate key "epochs"'),
        ("epochs: 3", 'epochs: !!int ""', "is not YAML (string index out of range)"),
        ("epochs: 3", 'epochs: !!int "-"', "is not YAML (invalid literal for int()"),
        ("epochs: 3", 'epochs: !!float ""', "is not YAML (string index out of range)"),
        ("epochs: 3", "epochs: !!bool maybe", "is not YAML (maybe)"),
        ("epochs: 3", "epochs: !!timestamp abc", "is not YAML (failed to construct timestamp"),
        ("epochs: 3", "epochs: !!map [1]", "is not YAML (expected a mapping node"),
        ("epochs: 3", "epochs: !!set [1]", "is not YAML (expected a mapping node"),
        ("epochs: 3", "epochs: &a [*a]", "train.epochs is [[[[[[[...]]]]]]]: it should be a valid"),
        ("epochs: 3", f"epochs: {'1' * 5000}", "is not YAML (Exceeds the limit (4300 digits)"),
        (
            "epochs: 3",
            f"epochs: 0x{'f' * 9999}",
            "train.epochs is a huge number: it should be less",
        ),
        ("epochs: 3", "epochs: yes", "train.epochs is 'yes': it should be a valid integer"),
        ("epochs: 3", "epochs: 1:30", "train.epochs is '1:30': it should be a valid integer"),
        ("epochs: 3", "1: 2", "train[1] is not a parameter"),
        ("accuracy: 0.98", "accuracy: high", "gate.limits.mnist.floors.accuracy is 'high': it sh"),
        ("accuracy: 0.98", "accuracy: .nan", "gate.limits.mnist.floors.accuracy is nan: it should"),
        (
            "  floors:\n        accuracy: 0.98\n",
            "  floors:\n",
            "gate.limits.mnist.floors is None: ",
        ),
        ("      floors:\n        accuracy: 0.98\n", "", "gate.limits.mnist.floors is missing: add"),
        (
            "      ceilings:",
            "      ceiling:",
            "gate.limits.mnist.ceiling is not a parameter: remove",
        ),
        ("mnist:\n      floors:", "'1':\n      floor:", "gate.limits.1.floor is not a parameter"),
        ("    mnist:\n", "    1e5:\n", "gate.limits.100000.0 is not named by text: put the name"),
        ("    mnist:\n", "    2024:\n", "gate.limits[2024] is not named by text: put the n"),
        ("epochs: 3", '"a\\nb": 2', r"train.a\nb is not a parameter"),
        ("epochs: 3", r'"\e[31m": 2', r"params.yaml: train.\x1b[31m is not a parameter"),
        ("epochs: 3", r'{"\e": 1, "\e": 2}: 3', r'found duplicate key "\x1b" with value "2"'),
        ("epochs: 3", f"? {'x' * 5000}\n  : 2", f"train.{'x' * 194}... is not a parameter"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(
    tmp_path: Path, old: str, new: str, complaint: str
) -> None:
    with pytest.raises(InputError) as error:
        load_changed(tmp_path, old, new)
    assert any(complaint in line for line in str(error.value).splitlines()), error.value


def test_each_wrong_value_has_a_line(tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        load_changed(
            tmp_path, "batch_size: 128\n  learning_rate: 0.012", "batch_size: 0\n  learning_rate: 0"
        )
    assert [line.split()[1] for line in str(error.value).splitlines()] == [
        "train.batch_size",
        "train.learning_rate",
    ]


def test_only_the_first_of_many_wrong_values_are_named(tmp_path: Path) -> None:
    many = "".join(f"u{number}: 1\n" for number in range(5000))
    with pytest.raises(InputError) as error:
        load_changed(tmp_path, "evaluate:", f"{many}evaluate:")
    *lines, last = str(error.value).splitlines()
    assert len(lines) == 10
    assert last.endswith("params.yaml: and 4,990 more")


@pytest.mark.parametrize("value", ["010", "0o10", "1:30", "yes", "1e3", "0x1F", "1_000", "~"])
def test_a_value_means_what_dvc_reads(tmp_path: Path, value: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(f"value: {value}")
    assert read_yaml(path) == load_yaml(path)


def test_a_few_aliases_are_read(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(
        PARAMS_TEXT.replace("seed: 42", "seed: &seed 7", 1).replace("seed: 42", "seed: *seed", 1)
    )
    assert load_params(path).train.seed == 7


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"params\.yaml cannot be read \(No such file"):
        load_params(tmp_path / "params.yaml")


def with_convolutions(convolutions: list[ConvolutionParams]) -> Params:
    model = PARAMS.model.model_copy(update={"convolutions": convolutions})
    return PARAMS.model_copy(update={"model": model})


@pytest.mark.parametrize(
    ("convolutions", "complaint"),
    [
        ([{"filters": 1, "kernel_size": 29}], r"\[0\].kernel_size is 29: expected at most 28"),
        ([{"filters": 1, "kernel_size": 3, "pool_size": 27}], r"\[0\].pool_size is 27: .* 26 x 26"),
        ([{"filters": 1, "kernel_size": 5, "strides": 4}] * 3, r"\[2\].kernel_size is 5: .* 1 x 1"),
    ],
)
def test_a_network_that_leaves_no_pixels_is_refused(
    convolutions: list[dict[str, int]], complaint: str
) -> None:
    layers = [ConvolutionParams.model_validate(convolution) for convolution in convolutions]
    with pytest.raises(InputError, match=complaint):
        check_image_size(with_convolutions(layers), 28, 28)


def test_a_network_that_uses_the_last_pixel_fits() -> None:
    layer = ConvolutionParams(filters=1, kernel_size=3, pool_size=26)
    check_image_size(with_convolutions([layer]), 28, 28)


def test_a_huge_dense_layer_is_announced(capsys: pytest.CaptureFixture[str]) -> None:
    check_image_size(PARAMS, 28, 28)
    assert capsys.readouterr().err == ""
    check_image_size(PARAMS, 224, 224)
    assert capsys.readouterr().err == (
        "warning: the hidden dense layer gets 394,272 values, so it has 50,466,816 weights; export "
        "will take 10.1 GB of memory, training a quarter of that; for fewer, set "
        "model.global_average_pooling, or use more strides or poolings\n"
    )
    averaging = PARAMS.model.model_copy(update={"global_average_pooling": True})
    check_image_size(PARAMS.model_copy(update={"model": averaging}), 224, 224)
    assert capsys.readouterr().err == ""


def test_a_shift_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(InputError, match=r"train.translation is 1.0: expected less than 1"):
        check_image_size(PARAMS, 1, 28)
