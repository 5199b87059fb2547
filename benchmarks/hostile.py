"""`python -m benchmarks.hostile [INPUTS]`: give hostile input to everything that reads files or
requests from outside.

For each kind of input, Hypothesis makes INPUTS different ones (1,000 unless given): random values,
and valid files in which a few bytes are changed. Each must end in an answer that makes sense, or in
an `InputError` of a few printable lines. Prints how many ended how, and the most seconds and memory
that one input of the kind took. Takes about five minutes on 2 CPU cores, and needs
requirements-dev.txt.
"""

import contextlib
import io
import json
import os
import resource
import socket
import subprocess
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pandas as pd
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy
from PIL import Image
from tqdm import tqdm

from benchmarks.compare import PEAK_MEMORY_UNIT
from mnist_cnn import gate
from mnist_cnn.data.arrays import read_arrays, write_arrays
from mnist_cnn.data.pictures import IMAGE_FORMATS
from mnist_cnn.data.raw import RAW, load_raw
from mnist_cnn.errors import InputError, suppress_stderr
from mnist_cnn.files import scratch_folder, sha256
from mnist_cnn.model.formats import CHECKSUMS, FORMATS, load_model
from mnist_cnn.model.formats.base import Metadata
from mnist_cnn.params import load_params
from mnist_cnn.reading.demo import HOST, Server
from mnist_cnn.reading.predict import find_answer
from mnist_cnn.reading.reader import READER, load_reader
from mnist_cnn.training.cluster import read_cluster

SECONDS = 10  # the longest that an input may take
LINES = 12  # the longest message
GRAPH = "saved_model.pb"
PARAMS = load_params()

Inputs = st.SearchStrategy[Any]


@dataclass(frozen=True)
class Kind:
    """A kind of input: a strategy for `inputs`; and `read`, which reads one in an empty current
    folder, checks the answer, and raises InputError to refuse the input."""

    inputs: Inputs
    read: Callable[[Any], None]


def main(inputs: int) -> None:
    rows = []
    for name in tqdm(KINDS, unit="kind", disable=None):
        command = [sys.executable, "-m", "benchmarks.hostile", "--kind", name, str(inputs)]
        limit = 600 + SECONDS * inputs
        done = subprocess.run(
            command, stdout=subprocess.PIPE, text=True, check=False, timeout=limit
        )
        # A traceback, a wrong answer, a hang or a crash of native code ends the kind.
        outcome = json.loads(done.stdout) if not done.returncode else {"failed": 1}
        rows.append({"kind": name, "failed": 0} | outcome)
    table = pd.DataFrame(rows).set_index("kind")
    print(table.to_markdown(floatfmt=("", ".0f", ".0f", ".0f", ".1f", ".0f")))


def try_inputs(kind: Kind, inputs: int) -> dict[str, float]:
    """Read that many different inputs of a kind, the same at every run. Return how many were
    answered and refused, and the most seconds that one took.

    Raises:
        Exception: what the reader raised, if it isn't an InputError.
        AssertionError: an answer or a message is wrong, or an input took too long.
    """
    outcomes, longest = Counter[str](), 0.0

    @settings(
        max_examples=inputs,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(kind.inputs)
    def try_input(value: Any) -> None:
        nonlocal longest
        start = time.perf_counter()
        outcomes[read_in_new_folder(kind, value)] += 1
        longest = max(longest, time.perf_counter() - start)
        assert longest < SECONDS

    try_input()
    return {"answered": outcomes["answered"], "refused": outcomes["refused"], "longest s": longest}


def read_in_new_folder(kind: Kind, value: Any) -> str:
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        try:
            kind.read(value)
        except InputError as error:
            lines = str(error).splitlines()
            assert 0 < len(lines) <= LINES and all(map(str.isprintable, lines)), lines
            return "refused"
        return "answered"


def damaged(content: bytes) -> Inputs:
    """Copies of a file in which up to four pieces are replaced, cut out, repeated or zeroed."""
    place = st.integers(0, len(content))
    length = st.one_of(st.integers(0, 8), place)
    repeated = st.tuples(place, st.integers(0, 64)).map(lambda at: content[at[0] : sum(at)])
    piece = st.one_of(st.binary(max_size=8), repeated, st.integers(0, 64).map(bytes))
    edits = st.lists(st.tuples(place, length, piece), min_size=1, max_size=4)
    return edits.map(partial(edited, content))


def edited(content: bytes, edits: list[tuple[int, int, bytes]]) -> bytes:
    for start, length, piece in edits:
        content = content[:start] + piece + content[start + length :]
    return content


def text_or(*values: object) -> Inputs:
    return st.one_of(st.sampled_from(values), st.text(max_size=20))


# params.yaml, in which the value of a line is replaced

SCALARS = text_or(
    *('!!int ""', '!!float "-"', "!!bool maybe", "!!timestamp abc", "!!map [1]", "!!set [1]"),
    *("!!binary ?", "!!python/object:os.system x", "*unknown", "&a [*a]", "010", "1:30", "yes"),
    *("9" * 5000, "1e-300", "1e999", ".nan", "-.inf", "null", "[" * 2000, "{a: {a: {a: 1}}}"),
    *("2026-11-27", "0x_", "0o9", "\x1b[31m", "\ud800", "|\n  x", "<<: [1]", "? [a]", "- - - 1"),
)


def replaced_line(at: int, value: str) -> bytes:
    lines = yaml.safe_dump(PARAMS.model_dump(mode="json")).splitlines()
    at %= len(lines)
    lines[at] = f"{lines[at].partition(':')[0]}: {value}"
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def read_params(content: bytes) -> None:
    Path("params.yaml").write_bytes(content)
    load_params()


# Arrays: `.npz` files with members of any shape, any type, and damaged headers

DTYPES = st.one_of(
    st.sampled_from(["<f4", "<i8", "<U1", "<U5", "|u1", "|b1", ">f4", "<f8", "|S3", "<M8[s]"]),
    st_numpy.scalar_dtypes(),
)
SHAPES = st_numpy.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
HEADERS = st.builds(
    "{{'descr': {}, 'fortran_order': {}, 'shape': {}}}".format,
    text_or("'<f4'", "'<U1'", "'|u1'", "'|O'", "[('a', '<f4')]", "'<f4'.x", "(" * 9000),
    text_or("False", "True", "0", "None"),
    text_or("(2, 2, 2, 1)", "(-100, -8, 8)", "(10**9,)", "(2,)", "(2**70,)", "()", "(True,)", "2"),
)


def npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def npy_with_header(header: str, values: bytes) -> bytes:
    text = header.encode("latin1", "replace") + b"\n"
    return b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text + values


def zipped(members: dict[str, bytes], compression: int) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


NPY = st.one_of(
    st_numpy.arrays(DTYPES, SHAPES).map(npy), st.builds(npy_with_header, HEADERS, st.binary())
)
LABELS = [npy(np.array([0, 1])), npy(np.array(["a", "b"])), npy(np.array(["a", ""]))]
NAMES = [["a", "b"], ["b", "b"], ["a", ""], ["\ud800", "a"], ["\x1b", "a"]]
WELL_FORMED = {
    "images": [npy(np.zeros((2, 4, 4, 1), np.float32))],
    "labels": [npy(np.array([0, 1]))],
    "classes": [npy(np.array(names)) for names in NAMES]
    + [npy(np.frombuffer(b"\0\0\x11\0a\0\0\0", "<U1"))],
    "x_train": [npy(np.zeros((2, 4, 4), np.uint8))],
    "y_train": LABELS,
    "x_test": [npy(np.zeros((2, 4, 4), np.uint8))],
    "y_test": LABELS,
}


def archives(*names: str) -> Inputs:
    """`.npz` files with these arrays, of which at most one is malformed."""
    well_formed = {f"{name}.npy": st.sampled_from(WELL_FORMED[name]) for name in names}
    malformed = st.sampled_from(list(well_formed)).flatmap(
        lambda name: st.fixed_dictionaries(well_formed | {name: NPY})
    )
    members = st.one_of(st.fixed_dictionaries(well_formed), malformed, malformed)
    return st.builds(zipped, members, st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]))


@cache
def prepared() -> bytes:
    images = np.linspace(0, 1, 2 * 16, dtype=np.float32).reshape(2, 4, 4, 1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "arrays.npz")
        write_arrays(path, [images], np.arange(2), np.array(["a", "b"]))
        return path.read_bytes()


def read_prepared(content: bytes) -> None:
    Path("test.npz").write_bytes(content)
    images, labels, classes = read_arrays(Path("test.npz"))
    values = np.asarray(images)
    assert len(values) == len(labels) and 0 <= values.min() <= values.max() <= 1
    assert 0 <= labels.min() <= labels.max() < len(classes) == len(set(classes.tolist()))
    assert all(name.isprintable() and name for name in classes.tolist())


# data/raw

TREES = st.dictionaries(
    st.lists(
        text_or("train", "test", "val", "a", "b", ".hidden", "x.png", "y.jpg", "classes.txt"),
        min_size=1,
        max_size=4,
    ).map(lambda parts: "/".join(part.replace("/", "").replace("\0", "") for part in parts)),
    st.one_of(st.sampled_from(["link", "loop", "fifo", "device"]), st.binary(max_size=64)),
    max_size=3,
)


def check_raw(source: str) -> None:
    params = PARAMS.prepare.model_copy(update={"source": source, "image_size": [4, 4]})
    with scratch_folder(Path()) as scratch:
        dataset = load_raw(params, scratch)
        classes = dataset.classes.tolist()
        assert len(dataset.train_images) == len(dataset.train_labels) > 0
        assert len(set(classes)) == len(classes) >= 2 and all(map(str.isprintable, classes))
        np.asarray(dataset.train_images)


def read_raw_npz(content: bytes) -> None:
    RAW.mkdir(parents=True)
    (RAW / "data.npz").write_bytes(content)
    check_raw("data.npz")


def read_raw_idx(files: dict[str, bytes]) -> None:
    (RAW / "idx").mkdir(parents=True)
    for name, content in files.items():
        (RAW / "idx" / name).write_bytes(content)
    check_raw("idx")


def read_raw_folders(tree: dict[str, str | bytes]) -> None:
    for path in ("a/1.png", "a/2.png", "b/1.png", "b/2.png"):
        place(RAW / "pictures" / path, path.encode())
    for name, content in tree.items():
        with contextlib.suppress(OSError, UnicodeError):  # the system refuses such names
            place(RAW / "pictures" / name, content)
    check_raw("pictures")


def place(path: Path, content: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if content == "link":
        path.symlink_to("/etc/passwd")
    elif content == "loop":
        path.symlink_to(path.parent, target_is_directory=True)
    elif content == "fifo":
        os.mkfifo(path)
    elif content == "device":
        path.symlink_to("/dev/zero")
    else:
        assert isinstance(content, bytes)
        path.write_bytes(content if path.suffix != ".png" else picture(content))


def idx(ndim: int, values: bytes) -> bytes:
    return (
        bytes([0, 0, 8, ndim]) + b"".join(n.to_bytes(4, "big") for n in (2, 4, 4)[:ndim]) + values
    )


# Models

METADATA = Metadata(["a", "b"], "picture", "pad", [8, 8], "grayscale", 1.0)


@cache
def small_models() -> dict[str, bytes]:
    """The content of a small model's file in each format."""
    from mnist_cnn.model.backend import set_seed
    from mnist_cnn.model.network import build_network

    set_seed(1)
    convolution = PARAMS.model.convolutions[0].model_copy(update={"filters": 2})
    params = PARAMS.model.model_copy(update={"convolutions": [convolution], "dense_units": 2})
    network = build_network(params, (8, 8, 1), 2)
    samples = np.zeros((1, 8, 8, 1), np.float32)
    contents = {}
    with tempfile.TemporaryDirectory() as folder, suppress_stderr():
        for path, write, _ in FORMATS.values():
            write(network, Path(folder, path.name), samples, METADATA)
            file = Path(folder, path.name)
            contents[path.name] = (file / GRAPH if file.is_dir() else file).read_bytes()
    return contents


def damaged_model(name: str) -> Kind:
    inputs = st.deferred(lambda: damaged(small_models()[name]))
    return Kind(inputs, partial(read_model, name))


def read_model(name: str, content: bytes) -> None:
    file = Path(name) if Path(name).suffix else Path(name, GRAPH)
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(content)
    model = load_model(Path(name), ((8, 8, 1), 2), described=True)
    probabilities = model(np.zeros((2, *model.image_shape), np.float32))
    assert np.isfinite(probabilities).all() and probabilities.max() < 1.01


def read_checksums(lines: list[bytes]) -> None:
    Path("model.onnx").write_bytes(small_models()["model.onnx"])
    right = sha256(Path("model.onnx")).encode()
    content = b"\n".join(lines).replace(b"RIGHT", right)
    Path(CHECKSUMS).write_bytes(content)
    load_model(Path("model.onnx"), ((8, 8, 1), 2))
    named = [line for line in content.splitlines() if b"model.onnx" in line]
    assert all(line.startswith(right) for line in named), named


CHECKSUM_LINES = st.builds(
    bytes.__add__,
    st.sampled_from([b"RIGHT", b"RIGHT", b"0" * 64, b"F" * 64, b"\\" + b"0" * 64]),
    st.sampled_from([b"  model.onnx", b" *model.onnx", b" model.onnx", b"  ./model.onnx"]),
)

# Pictures


def encoded(pixels: Any, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


@cache
def valid_picture(kind: str) -> bytes:
    pixels = np.full((40, 60), 255, np.uint8)
    pixels[8:30, 20:24] = pixels[8:12, 20:34] = 0
    return encoded(pixels, kind)


def picture(seed: bytes) -> bytes:
    """A small PNG that depends on `seed`."""
    pixels = np.frombuffer(seed.ljust(64, b"\xff")[:64], np.uint8).reshape(8, 8)
    return encoded(pixels)


def drawn(size: tuple[int, int], dots: int, stroke: int, seed: int) -> bytes:
    """A PNG with many marks."""
    random = np.random.default_rng(seed)
    pixels = np.full(size, 255, np.uint8)
    for y, x in random.integers(0, size, (dots, 2)):
        pixels[y : y + stroke, x : x + stroke] = 0
    return encoded(pixels)


MARKS = st.builds(
    drawn,
    st.tuples(st.integers(1, 1200), st.integers(1, 1200)),
    st.sampled_from([0, 1, 100, 5000, 60000]),
    st.integers(1, 20),
    st.integers(0, 2**31),
)
PIXELS = st_numpy.arrays(
    st.sampled_from([np.float32, np.int32, np.uint16]), st.tuples(st.integers(1, 9), st.just(7))
)


@cache
def reader() -> Any:
    return load_reader(READER)


def read_picture(content: bytes) -> None:
    for multiple in (False, True):
        answer = find_answer(reader(), io.BytesIO(content), multiple)
        assert 0 <= answer.confidence <= 1
        json.dumps(answer.describe(), allow_nan=False)


# Requests to the page

REQUESTS = st.builds(
    "{} {} {}\r\n{}\r\n\r\n".format,
    text_or("GET", "POST", "PUT", "HEAD", "OPTIONS"),
    text_or("/", "/?multiple=true", "/../params.yaml", "//", "http://example.org/"),
    text_or("HTTP/1.0", "HTTP/1.1", "HTTP/9", ""),
    st.lists(
        st.builds(
            "{}: {}".format,
            text_or("Host", "Origin", "Content-Length", "Transfer-Encoding", "Expect"),
            text_or(
                "HOST", "http://HOST", "null", "5", "-1", "9" * 5000, "chunked", "100-continue"
            ),
        ),
        max_size=4,
    ).map("\r\n".join),
).flatmap(
    lambda head: st.binary(max_size=20).map(lambda body: head.encode("utf-8", "replace") + body)
)


@cache
def server() -> Server:
    server = Server(0, reader())
    Thread(target=server.serve_forever, daemon=True).start()
    return server


def send(content: bytes) -> bytes:
    """Send bytes to the page, and return its reply."""
    address = HOST, server().server_address[1]
    with socket.create_connection(address, timeout=SECONDS) as connection:
        connection.sendall(content.replace(b"HOST", f"{HOST}:{address[1]}".encode()))
        connection.shutdown(socket.SHUT_WR)
        reply = b""
        with contextlib.suppress(ConnectionError):
            while chunk := connection.recv(2**16):
                reply += chunk
        return reply


def read_request(content: bytes) -> None:
    send(content)
    assert send(b"GET / HTTP/1.1\r\nHost: HOST\r\n\r\n").startswith(b"HTTP/1.0 200")


# The rest

CLUSTERS = st.recursive(
    st.one_of(st.none(), st.integers(), st.floats(), text_or("worker", "a:1", "b:2", "[::1]:3")),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(text_or("cluster", "worker", "chief", "task", "type", "index"), inner),
    ),
)
CLUSTER = json.dumps(
    {"cluster": {"worker": ["a:1", "b:2"]}, "task": {"type": "worker", "index": 0}}
)


def read_tf_config(text: str) -> None:
    os.environ["TF_CONFIG"] = text.replace("\0", "").encode("utf-8", "replace").decode()
    try:
        cluster = read_cluster()
    finally:
        del os.environ["TF_CONFIG"]
    assert not cluster.addresses or 0 <= cluster.worker < len(cluster.addresses)


def read_results(files: tuple[bytes, bytes, bytes]) -> None:
    try:
        results = gate.parse_results("the workspace", "", *files)
    except Exception as error:  # as `gate.read_results`
        raise InputError("refused") from error
    errors = sum(n for (actual, predicted), n in results.matrix.items() if actual != predicted)
    assert len(results.misclassified) == errors
    accuracy = 1 - errors / results.images
    assert abs(results.metrics.get("accuracy", accuracy) - accuracy) < 1e-6


def one_damaged(*contents: bytes) -> Inputs:
    """The files, one of which is damaged."""
    good = [st.just(content) for content in contents]
    return st.integers(0, len(good) - 1).flatmap(
        lambda i: st.tuples(*good[:i], damaged(contents[i]), *good[i + 1 :])
    )


RESULTS = [
    Path(name).read_bytes() for name in (gate.METRICS, gate.MISCLASSIFIED, gate.CONFUSION_MATRIX)
]

KINDS = {
    "params.yaml": Kind(
        st.one_of(
            st.builds(replaced_line, st.integers(0, 100), SCALARS),
            damaged(Path("params.yaml").read_bytes()),
            st.binary(max_size=200),
        ),
        read_params,
    ),
    "data/prepared": Kind(
        st.one_of(damaged(prepared()), archives("images", "labels", "classes")), read_prepared
    ),
    "data/raw, .npz": Kind(
        st.one_of(
            archives("x_train", "y_train"), archives("x_train", "y_train", "x_test", "y_test")
        ),
        read_raw_npz,
    ),
    "data/raw, IDX": Kind(
        st.fixed_dictionaries(
            {
                "train-images-idx3-ubyte": damaged(idx(3, bytes(range(32)))),
                "train-labels-idx1-ubyte": st.one_of(
                    st.just(idx(1, b"\0\1")), damaged(idx(1, b"\0\1"))
                ),
            },
            optional={"classes.txt": st.binary(max_size=20)},
        ),
        read_raw_idx,
    ),
    "data/raw, folders": Kind(TREES, read_raw_folders),
    **{path.name: damaged_model(path.name) for path, *_ in FORMATS.values()},
    CHECKSUMS: Kind(
        st.one_of(
            st.lists(CHECKSUM_LINES, max_size=3), st.lists(st.binary(max_size=100), max_size=3)
        ),
        read_checksums,
    ),
    "pictures": Kind(
        st.one_of(
            *(damaged(valid_picture(kind)) for kind in IMAGE_FORMATS),
            MARKS,
            PIXELS.map(partial(encoded, kind="TIFF")),
            st.binary(max_size=200),
        ),
        read_picture,
    ),
    "requests to the page": Kind(st.one_of(REQUESTS, st.binary(max_size=200)), read_request),
    "TF_CONFIG": Kind(
        st.one_of(
            CLUSTERS.map(json.dumps),
            damaged(CLUSTER.encode()).map(lambda text: text.decode("utf-8", "replace")),
            st.integers(1, 100_000).map("[".__mul__),
            st.text(),
        ),
        read_tf_config,
    ),
    "results for the gate": Kind(one_damaged(*RESULTS), read_results),
}


if __name__ == "__main__":
    if sys.argv[1:2] == ["--kind"]:
        try_inputs(KINDS[sys.argv[2]], 1)  # imports what it needs
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        outcome = try_inputs(KINDS[sys.argv[2]], int(sys.argv[3]))
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(json.dumps(outcome | {"more MB": (after - before) * PEAK_MEMORY_UNIT / 1e6}))
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
