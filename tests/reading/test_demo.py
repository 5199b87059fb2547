"""The drawing page, in a real browser."""

import io
import json
import re
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from tempfile import NamedTemporaryFile
from threading import Thread
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageDraw
from playwright.sync_api import Browser, Page, expect
from scipy.interpolate import CubicSpline

from mnist_cnn.data.mnist import load_mnist
from mnist_cnn.model.formats import Model
from mnist_cnn.model.formats.base import ImageBatch, Metadata, Probabilities
from mnist_cnn.reading.demo import HOST, MAX_PICTURES, Handler, Server
from mnist_cnn.reading.reader import READER
from tests.helpers import ENVIRONMENT, ROOT, run
from tests.reading.helpers import OTHER, PAIR_72, SEVEN, SHEET, ZERO, drawing, photograph

DEMO = ("python", "-m", "mnist_cnn.reading.demo")
INVITATION = "The network's answer appears here."

# The strokes of handwritten digits, as points (x, y) in [0, 1]. A stroke with more than two points
# is curved.
STROKES: dict[int, list[list[tuple[float, float]]]] = {
    0: [[(0.5, 0), (0.1, 0.3), (0.15, 0.75), (0.5, 1), (0.85, 0.75), (0.9, 0.3), (0.5, 0)]],
    1: [[(0.55, 0), (0.45, 1)]],
    2: [
        [(0.1, 0.25), (0.35, 0), (0.8, 0.1), (0.8, 0.4), (0.4, 0.75), (0.05, 1)],
        [(0.05, 1), (0.95, 1)],
    ],
    3: [
        [(0.1, 0.1), (0.5, 0), (0.85, 0.2), (0.7, 0.42), (0.4, 0.47)],
        [(0.4, 0.47), (0.8, 0.55), (0.9, 0.78), (0.6, 1), (0.1, 0.93)],
    ],
    4: [[(0.3, 0), (0.05, 0.6)], [(0.05, 0.6), (0.95, 0.6)], [(0.7, 0.25), (0.65, 1)]],
    5: [
        [(0.85, 0), (0.2, 0)],
        [(0.2, 0), (0.15, 0.42)],
        [(0.15, 0.42), (0.55, 0.36), (0.85, 0.6), (0.75, 0.92), (0.4, 1), (0.1, 0.92)],
    ],
    6: [[(0.75, 0), (0.3, 0.3), (0.12, 0.7), (0.45, 1), (0.8, 0.75), (0.5, 0.53), (0.15, 0.7)]],
    7: [[(0.05, 0), (0.9, 0)], [(0.9, 0), (0.35, 1)]],
    8: [
        [(0.8, 0.15), (0.5, 0), (0.2, 0.2), (0.5, 0.48), (0.8, 0.8), (0.5, 1)],
        [(0.5, 1), (0.2, 0.8), (0.5, 0.48), (0.8, 0.15)],
    ],
    9: [
        [(0.8, 0.2), (0.5, 0), (0.2, 0.2), (0.35, 0.48), (0.7, 0.4), (0.82, 0.18)],
        [(0.82, 0.18), (0.65, 1)],
    ],
}
Box = tuple[float, float, float, float]  # left, top, width and height as shares of the canvas
MIDDLE = (0.35, 0.15, 0.3, 0.7)


@contextmanager
def served(model: Path = READER) -> Iterator[str]:
    """Yield the address of a demo that serves `model`. It must print nothing else."""
    command = [*DEMO, "--port", "0", "--model", str(model)]
    with (
        NamedTemporaryFile() as log,
        subprocess.Popen(command, cwd=ROOT, env=ENVIRONMENT, stdout=log, stderr=log) as demo,
    ):
        try:
            deadline = time.monotonic() + 60
            while "Ctrl-C" not in (printed := Path(log.name).read_text()):
                assert demo.poll() is None and time.monotonic() < deadline, printed
                time.sleep(0.05)
            yield printed.split()[0]
        finally:
            demo.terminate()
        assert Path(log.name).read_text() == printed


@contextmanager
def serving(model: Model) -> Iterator[tuple[Server, str]]:
    """Yield a demo in this process and its address."""
    with Server(0, model) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server, f"http://{HOST}:{server.server_address[1]}/"
        server.shutdown()


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with served() as address:
        yield address


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    """The open page. It must send requests only to the demo, and must not throw errors."""
    expect.set_options(timeout=20_000)
    page = browser.new_page()
    page.set_default_timeout(20_000)
    requests: list[str] = []
    errors: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(address)
    yield page
    page.close()
    assert requests and all(url.startswith(address) for url in requests)
    assert not errors


def draw(page: Page, digit: int, place: Box = MIDDLE, pen: int = 24) -> None:
    canvas = page.locator("canvas").bounding_box()
    assert canvas
    page.locator("#width").fill(str(pen))
    left, top, width, height = place
    for stroke in STROKES[digit]:
        points = np.array(stroke)
        if len(points) > 2:
            steps = np.linalg.norm(np.diff(points, axis=0), axis=1)
            along = np.concatenate([[0], np.cumsum(steps)])
            points = CubicSpline(along, points)(np.linspace(0, along[-1], 10))
        across = canvas["x"] + canvas["width"] * (left + width * points[:, 0])
        down = canvas["y"] + canvas["height"] * (top + height * points[:, 1])
        page.mouse.move(across[0], down[0])
        page.mouse.down()
        for x, y in zip(across[1:], down[1:], strict=True):
            page.mouse.move(x, y)
        page.mouse.up()


def digits(page: Page) -> str:
    """Return the digits on the page, once all answers have arrived."""
    expect(page.locator("#output[aria-busy=false]")).to_be_attached()
    return "".join(page.locator("header b").all_inner_texts())


@pytest.mark.parametrize(
    ("place", "pen"),
    [
        (MIDDLE, 24),
        (MIDDLE, 50),
        ((0.02, 0.02, 0.1, 0.2), 12),
        ((0.85, 0.75, 0.13, 0.23), 5),
    ],
    ids=["large", "thick", "small, in a corner", "thin, in another corner"],
)
def test_drawn_digits_are_read(page: Page, place: Box, pen: int) -> None:
    read = ""
    for digit in range(10):
        page.get_by_role("button", name="Clear").click()
        draw(page, digit, place, pen)
        read += digits(page)
    assert read == "0123456789"


def test_an_empty_canvas_shows_a_hint(page: Page) -> None:
    expect(page.get_by_text(INVITATION)).to_be_visible()
    draw(page, 3)
    expect(page.get_by_text(INVITATION)).to_be_hidden()
    page.get_by_role("button", name="Clear").click()
    expect(page.get_by_text(INVITATION)).to_be_visible()
    assert digits(page) == ""


def test_the_answer_appears_while_drawing(page: Page) -> None:
    page.locator("canvas").hover()
    page.mouse.down()
    page.mouse.move(200, 300)
    expect(page.locator("article")).to_be_visible()
    page.mouse.up()


def test_several_drawn_digits_are_read(page: Page) -> None:
    page.get_by_label("several digits").check()
    for number, digit in enumerate([2, 0, 2, 6]):
        draw(page, digit, (0.05 + 0.24 * number, 0.3, 0.15, 0.4), pen=16)
    assert digits(page) == "2026"


def test_a_dot_is_ink(page: Page) -> None:
    page.locator("#width").fill("60")
    page.locator("canvas").click()
    expect(page.locator("header b")).to_be_visible()


def test_an_answer_that_is_not_sure_says_so(browser: Browser, digit_models: Path) -> None:
    with served(digit_models / "untrained.onnx") as address, browser.new_page() as page:
        page.goto(address)
        page.locator("canvas").click()
        expect(page.locator("header span")).to_contain_text("not sure")


@pytest.mark.parametrize("how", ["chosen", "dropped"])
def test_a_picture_gets_the_answer_of_predict(page: Page, how: str) -> None:
    example = ROOT / "data/example.jpg"
    command = ("python", "-m", "mnist_cnn.reading.predict", "--multiple", "--format", "json")
    expected = json.loads(run(ROOT, *command, str(example)).stdout)["digits"]
    page.get_by_label("several digits").check()
    if how == "chosen":
        page.get_by_label("A picture").set_input_files(example)
    else:
        content = list(example.read_bytes())
        files = page.evaluate_handle(
            "(content) => { const files = new DataTransfer();"
            "files.items.add(new File([new Uint8Array(content)], 'it.jpg')); return files; }",
            content,
        )
        page.locator("canvas").dispatch_event("drop", {"dataTransfer": files})
    expect(page.locator("article")).to_have_count(len(expected))
    assert digits(page) == "".join(str(digit["digit"]) for digit in expected)
    assert page.locator("header span").all_inner_texts() == [
        f"{digit['confidence']:.1%}" + ("" if digit["sure"] else "\nnot sure") for digit in expected
    ]
    bars = page.locator("article").first.locator("li i")
    widths = bars.evaluate_all("(bars) => bars.map((bar) => parseFloat(bar.style.width))")
    assert (len(widths), int(np.argmax(widths))) == (10, expected[0]["digit"])
    assert max(widths) == pytest.approx(100 * expected[0]["confidence"])
    seen = page.locator("img").first
    assert seen.evaluate("(image) => [image.naturalWidth, image.naturalHeight]") == [56, 28]


@pytest.mark.parametrize(
    ("model", "reason"),
    [(OTHER, "not a digit"), (PAIR_72, "two digits: tick “several digits”")],
    ids=["not a digit", "two digits"],
)
def test_a_refusal_says_why(browser: Browser, model: Model, reason: str) -> None:
    with serving(model) as (_, address), browser.new_page() as page:
        page.goto(address)
        draw(page, 7)
        assert digits(page) == "\N{EN DASH}"
        assert page.locator("header span").all_inner_texts() == [reason]
        expect(page.locator("li")).to_have_count(10)


def test_touching_digits_are_read_with_several(browser: Browser) -> None:
    with serving(PAIR_72) as (_, address), browser.new_page() as page:
        page.goto(address)
        draw(page, 7)
        page.get_by_label("several digits").check()
        assert digits(page) == "72"


def test_the_class_of_a_picture_is_shown_and_names_are_text(browser: Browser) -> None:
    names = ["<b>ape</b>", *"bcdefghijklm"]
    metadata = Metadata(names, "picture", "pad", [20, 16], "rgb", 1.0)
    shares = np.array([[0.5, *[0.05] * 10, 0, 0]], np.float32)
    with (
        serving(Model((20, 16, 3), lambda _: shares, metadata)) as (_, address),
        browser.new_page() as page,
    ):
        page.goto(address)
        page.locator("canvas").click()
        expect(page.locator("header")).to_have_text(re.compile(r"<b>ape</b>\s+50.0%not sure"))
        expect(page.locator("li")).to_have_count(10)
        assert page.locator("li").first.inner_text().split() == ["<b>ape</b>", "50.0%"]
        assert not page.get_by_label("several digits").is_visible()
        page.get_by_label("A picture").set_input_files(
            {"name": "x.png", "mimeType": "image/png", "buffer": b"no picture"}
        )
        expect(page.locator("#message")).to_contain_text("not a recognised image format")
        expect(page.locator("article")).to_have_count(0)


OUTLINES = """(canvas) => {
  const kinds = { "22,163,74": "sheet", "220,38,38": "digit", "107,114,128": "refused" };
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  const found = {};
  for (let i = 0; i < data.length; i += 4) {
    const kind = kinds[data.slice(i, i + 3)];
    if (kind) (found[kind] ??= []).push([(i / 4) % canvas.width, Math.floor(i / 4 / canvas.width)]);
  }
  return found;
}"""


def outlines(page: Page) -> dict[str, npt.NDArray[np.int64]]:
    """Return the canvas' pixels [N, 2] (x, y) that have the colour of an outline, by its kind."""
    found = page.locator("canvas").evaluate(OUTLINES)
    return {kind: np.array(pixels) for kind, pixels in found.items()}


def first_outlines(page: Page) -> dict[str, npt.NDArray[np.int64]]:
    """Return outlines as soon as there are any."""
    deadline = time.monotonic() + 20
    while not (found := outlines(page)) and time.monotonic() < deadline:
        page.wait_for_timeout(50)
    return found


def test_what_was_found_in_a_picture_is_outlined(page: Page, tmp_path: Path) -> None:
    mnist = load_mnist()
    glyph = mnist.test_images[np.flatnonzero(mnist.test_labels == 2)[0]]
    photograph(glyph, 1200, 600).save(tmp_path / "sheet.png")
    page.get_by_label("A picture").set_input_files(tmp_path / "sheet.png")
    assert digits(page) == "2"
    found = first_outlines(page)
    assert set(found) == {"sheet", "digit"}
    corners = SHEET * (640, 320) + (0, 80)  # the picture is in the middle of the canvas
    np.testing.assert_allclose(found["sheet"].min(axis=0), corners.min(axis=0), atol=8)
    np.testing.assert_allclose(found["sheet"].max(axis=0), corners.max(axis=0), atol=8)
    # The digit is a little above and to the left of the middle.
    low, high = found["digit"].min(axis=0), found["digit"].max(axis=0)
    np.testing.assert_allclose((low + high) / 2, corners.mean(axis=0), atol=30)
    assert (high - low < 100).all()
    draw(page, 7)
    assert digits(page) == "7"
    assert not outlines(page)


def test_a_refused_mark_in_a_picture_is_outlined(browser: Browser, tmp_path: Path) -> None:
    drawing(SEVEN).save(tmp_path / "seven.png")
    with serving(OTHER) as (_, address), browser.new_page() as page:
        page.goto(address)
        page.get_by_label("A picture").set_input_files(tmp_path / "seven.png")
        found = first_outlines(page)
    assert set(found) == {"refused"}
    # The picture is drawn four times as large, in the middle of the canvas.
    corner = 4 * np.array(SEVEN).min(axis=0) + (80, 0)
    np.testing.assert_allclose(found["refused"].min(axis=0), corner, atol=24)


def encoded(picture: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


UNUSABLE = {
    "not a picture": (b"digits", "It cannot be read as a picture"),
    "cut off": (encoded(Image.effect_noise((90, 90), 50))[:900], "It cannot be read as a picture"),
    "one colour": (encoded(Image.new("L", (90, 90), 70)), "It shows no digits"),
    "not finite": (
        encoded(Image.new("F", (90, 90), np.inf), "TIFF"),
        "It contains pixels that",
    ),
    "many bytes": (bytes(20_000_001), "It has more than 20 MB: reduce it"),
    "many pixels": (encoded(Image.new("1", (20_000, 5001))), "It has 20000 x 5001 pixels"),
}


@pytest.mark.parametrize(("content", "message"), UNUSABLE.values(), ids=UNUSABLE)
def test_an_unusable_picture_is_one_line(
    page: Page, tmp_path: Path, content: bytes, message: str
) -> None:
    (tmp_path / "it.png").write_bytes(content)
    page.get_by_label("A picture").set_input_files(tmp_path / "it.png")
    expect(page.locator("#message")).to_contain_text(message, ignore_case=True)
    assert digits(page) == ""
    draw(page, 7)
    assert digits(page) == "7"


def test_the_page_says_that_the_demo_has_ended(browser: Browser) -> None:
    page = browser.new_page()
    with served() as address:
        page.goto(address)
    draw(page, 7)
    expect(page.get_by_text("is the demo still running")).to_be_visible()
    page.close()


def post(address: str, picture: bytes, query: str = "") -> Any:
    with urllib.request.urlopen(f"{address}read{query}", picture, timeout=60) as answer:
        return json.load(answer)


def test_ten_clients_at_once_get_their_own_answers(digit_models: Path) -> None:
    """LiteRT interpreters aren't thread-safe, so this fails if they are used without a lock."""
    pictures = [encoded(Image.fromarray(image)) for image in load_mnist().test_images[:10]]
    with served(digit_models / "model.tflite") as address:
        expected = [post(address, picture) for picture in pictures]
        assert len({json.dumps(answer) for answer in expected}) == 10
        with ThreadPoolExecutor(10) as clients:
            answers = clients.map(post, [address] * 200, pictures * 20)
            assert list(answers) == expected * 20


def test_one_thread_at_a_time_uses_the_model() -> None:
    running: list[int] = []
    most: list[int] = []

    def predict_batch(images: ImageBatch) -> Probabilities:
        running.append(1)
        time.sleep(0.02)
        most.append(len(running))
        running.pop()
        return ZERO.predict_batch(images)

    picture = encoded(drawing(SEVEN))
    with (
        serving(Model(ZERO.image_shape, predict_batch)) as (_, address),
        ThreadPoolExecutor(MAX_PICTURES) as clients,
    ):
        list(clients.map(post, [address] * 10, [picture] * 10))
    assert set(most) == {1}


def many_pixels() -> bytes:
    picture = Image.new("RGB", (10_000, 10_000), "white")
    ImageDraw.Draw(picture).line([(6000, 2000), (4000, 8000)], "black", 900)
    return encoded(picture, "TIFF", compression="tiff_adobe_deflate")


def many_marks() -> bytes:
    marks = np.full((60, 14, 60, 14), 255, np.uint8)
    marks[:, 3:10, :, 3:10] = 0
    return encoded(Image.fromarray(marks.reshape(840, 840)))


@pytest.mark.parametrize(("slow", "digits"), [(many_pixels, 1), (many_marks, 3600)])
def test_a_slow_picture_does_not_block_other_clients(
    address: str, slow: Callable[[], bytes], digits: int
) -> None:
    quick = encoded(Image.fromarray(load_mnist().test_images[0]))
    content = slow()
    with ThreadPoolExecutor(1) as client:
        slow_answer = client.submit(post, address, content, "?multiple=true")
        quick_answers = []
        while not slow_answer.done():
            quick_answers.append(post(address, quick))
    assert len(slow_answer.result()["digits"]) == digits
    assert len(quick_answers) > 5
    assert {answer["error"] for answer in quick_answers} == {None}


def test_a_client_that_would_have_to_wait_is_told() -> None:
    picture = encoded(Image.fromarray(load_mnist().test_images[0]))
    with serving(ZERO) as (server, address):
        for _ in range(MAX_PICTURES):
            server.free.acquire()
        error = "the demo is busy with other pictures: try again in a few seconds"
        assert post(address, picture) == {"digits": [], "sheet": None, "error": error}
        server.free.release()
        assert [post(address, picture)["error"] for _ in range(3)] == [None] * 3


def reply(address: str, *headers: str, body: bytes = b"", close: bool = False) -> bytes:
    """Post something and return the answer. With `close`, send nothing after the body."""
    host = address.split("/")[2]
    with socket.create_connection((HOST, int(host.split(":")[1])), timeout=20) as client:
        client.sendall("\r\n".join(["POST /read HTTP/1.1", *headers, "", ""]).encode() + body)
        if close:
            client.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: client.recv(1 << 16), b""))


@contextmanager
def watched() -> Iterator[tuple[str, list[int]]]:
    """Yield the address of a demo, and a list that gets an entry for each picture it reads."""
    pictures: list[int] = []

    def predict_batch(images: ImageBatch) -> Probabilities:
        pictures.append(len(images))
        return ZERO.predict_batch(images)

    with serving(Model(ZERO.image_shape, predict_batch)) as (_, address):
        yield address, pictures


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        ("127.0.0.1:PORT", None, b"200"),
        ("127.0.0.1:PORT", "http://127.0.0.1:PORT", b"200"),
        ("localhost:PORT", "http://localhost:PORT", b"200"),
        ("localhost:PORT", "http://127.0.0.1:PORT", b"403"),
        ("127.0.0.1:PORT", "http://127.0.0.1", b"403"),
        ("127.0.0.1:PORT", "https://127.0.0.1:PORT", b"403"),
        ("127.0.0.1:PORT", "null", b"403"),
        ("127.0.0.1", None, b"403"),
        ("127.0.0.1:1", None, b"403"),
        ("example.org:PORT", "http://example.org:PORT", b"403"),
        (None, None, b"403"),
    ],
)
def test_only_the_page_of_the_demo_is_answered(
    host: str | None, origin: str | None, status: bytes
) -> None:
    picture = encoded(drawing(SEVEN))
    with watched() as (address, pictures):
        port = address.split(":")[2].strip("/")
        named = {"Host": host, "Origin": origin, "Content-Length": str(len(picture))}
        headers = [
            f"{name}: {value}".replace("PORT", port) for name, value in named.items() if value
        ]
        assert reply(address, *headers, body=picture).split()[1] == status
        assert len(pictures) == (status == b"200")


FOREIGN = """async (address) => {
  const post = { method: "POST", body: "x" };
  const opaque = { ...post, mode: "no-cors" };
  const frame = document.createElement("iframe");
  frame.src = address;
  document.body.append(frame);
  const answers = [address, address + "read"].flatMap((url, i) =>
    [fetch(url, i ? post : {}), fetch(url, i ? opaque : { mode: "no-cors" })]);
  const settled = await Promise.allSettled(answers);
  return settled.map(({ status, value }) => value?.ok ?? status);
}"""


def test_other_sites_get_no_answer(browser: Browser) -> None:
    class Other(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    picture = encoded(drawing(SEVEN))
    with (
        watched() as (address, pictures),
        HTTPServer((HOST, 0), Other) as other,
        browser.new_page() as page,
    ):
        Thread(target=other.serve_forever, daemon=True).start()
        page.goto(f"http://{HOST}:{other.server_port}/")
        # Chromium may refuse before it asks.
        assert not {True} & set(page.evaluate(FOREIGN, address))
        assert all(address not in frame.url for frame in page.frames)
        other.shutdown()
        # As if the name of a foreign site led here.
        response = page.goto(address.replace(HOST, "foreign.localhost"))
        assert response and response.status == 403
        assert not pictures
        response = page.goto(address.replace(HOST, "localhost"))
        assert response and response.headers["x-frame-options"] == "DENY"
        assert response.headers["x-content-type-options"] == "nosniff"
        page.get_by_label("A picture").set_input_files(
            {"name": "x.png", "mimeType": "image/png", "buffer": picture}
        )
        assert digits(page) == "0"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (["Content-Length: " + "9" * 5000], b"400"),
        (["Content-Length: -1"], b"400"),
        (["Content-Length: 1_0"], b"400"),
        (["Content-Length: 3", "Content-Length: 4"], b"411"),
        (["Transfer-Encoding: chunked"], b"411"),
        (["Transfer-Encoding: chunked", "Content-Length: 3"], b"411"),
        ([], b"411"),
    ],
)
def test_a_length_that_is_wrong_is_refused(address: str, headers: list[str], status: bytes) -> None:
    host = f"Host: {address.split('/')[2]}"
    assert reply(address, host, *headers, body=b"abc").split()[1] == status


def test_a_picture_that_is_cut_off_is_not_read() -> None:
    picture = encoded(drawing(SEVEN))
    with watched() as (address, pictures):
        headers = f"Host: {address.split('/')[2]}", f"Content-Length: {len(picture) + 1}"
        assert reply(address, *headers, body=picture, close=True) == b""
        assert not pictures


def test_a_picture_must_arrive_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Handler, "timeout", 0.5)
    with watched() as (address, _):
        host = address.split("/")[2]
        with socket.create_connection((HOST, int(host.split(":")[1])), timeout=20) as client:
            client.sendall(
                f"POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 99\r\n\r\n".encode()
            )
            start = time.monotonic()
            with pytest.raises(ConnectionError):
                while time.monotonic() < start + 9:
                    client.sendall(b"x")
                    time.sleep(0.1)


def test_it_listens_on_the_loopback_address_alone(address: str) -> None:
    port = int(address.strip("/").split(":")[-1])
    with pytest.raises(OSError), socket.create_connection(("127.0.0.2", port), timeout=2):
        pass


def test_a_port_in_use_is_one_line(address: str) -> None:
    port = address.strip("/").split(":")[-1]
    done = run(ROOT, *DEMO, "--port", port)
    assert done.stderr == (
        f"error: port {port} cannot be used (Address already in use): stop the program that uses "
        "it, or choose another with --port\n"
    )
    assert (done.returncode, done.stdout) == (1, "")


def test_a_missing_model_is_one_line() -> None:
    done = run(ROOT, *DEMO, "--model", "none.onnx")
    assert done.stderr.startswith("error: none.onnx does not exist")
    assert (done.returncode, done.stderr.count("\n"), done.stdout) == (1, 1, "")
