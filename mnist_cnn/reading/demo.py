"""`mnist-cnn-demo`: serve a page on which to draw digits or drop pictures.

The server listens only on the loopback address and answers only its own page, which loads nothing
from elsewhere. The page, demo.html, posts a picture and gets the result of `Server.read` as JSON.
"""

import argparse
import base64
import contextlib
import io
import json
import os
import re
import sys
import time
from collections.abc import Iterable
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingTCPServer
from threading import Lock, Semaphore
from typing import Any

import numpy as np
from PIL import Image

from mnist_cnn.errors import InputError, describe_exception, report_errors
from mnist_cnn.model.formats import Model
from mnist_cnn.model.formats.base import ImageBatch, Probabilities
from mnist_cnn.reading.classify import Classification
from mnist_cnn.reading.predict import add_model_option, describe_nothing, find_answer
from mnist_cnn.reading.reader import load_reader

HOST, PORT = "127.0.0.1", 8000
PAGE = Path(__file__).with_suffix(".html")
MAX_BYTES = 20_000_000
MAX_PICTURES = 2  # read at once; a picture of 100 megapixels takes up to 1.7 GB
MAX_WAIT = 1  # seconds
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; connect-src 'self'; img-src data:; "
    "script-src 'unsafe-inline'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


@report_errors
def main() -> None:
    arguments = _parse_arguments()
    model = load_reader(arguments.model)
    try:
        server = Server(arguments.port, model)
    except (OSError, OverflowError) as error:
        raise InputError(
            f"port {arguments.port} cannot be used ({describe_exception(error)}): stop the program "
            "that uses it, or choose another with --port"
        ) from error
    with server, contextlib.suppress(KeyboardInterrupt):
        print(f"http://{HOST}:{server.server_address[1]}/  (Ctrl-C to quit)", flush=True)
        server.serve_forever()


class Handler(BaseHTTPRequestHandler):
    server: "Server"
    timeout = 10  # seconds until an idle connection is closed, and for a picture to arrive

    def parse_request(self) -> bool:
        """Refuse the pages of other sites, also those whose name leads to the loopback address."""
        if not super().parse_request():
            return False
        host, origin = self.headers.get("Host"), self.headers.get("Origin")
        if host in self.server.names and origin in (None, f"http://{host}"):
            return True
        self.send_error(403)
        return False

    def do_GET(self) -> None:
        if self.path == "/":
            self._send("text/html; charset=utf-8", PAGE.read_bytes())
        else:
            self.send_error(404)

    def do_POST(self) -> None:
        lengths = self.headers.get_all("Content-Length", [])
        if "Transfer-Encoding" in self.headers or len(lengths) != 1:
            self.send_error(411)
            return
        if not re.fullmatch("[0-9]{1,15}", lengths[0]):
            self.send_error(400)
            return
        try:
            content = self._receive(int(lengths[0]))
            answer = self.server.read(content, self.path.endswith("?multiple=true"))
        except InputError as error:
            answer = {**describe_nothing(self.server.model), "error": str(error)}
        self._send("application/json", json.dumps(answer).encode())

    def _receive(self, length: int) -> bytes:
        content = bytearray()
        received, deadline = 0, time.monotonic() + self.timeout
        while received < length:  # browsers read the response only after sending everything
            chunk = self.rfile.read1(min(length - received, 1 << 16))
            if not chunk or time.monotonic() > deadline:
                raise ConnectionError("the sender is gone or too slow")
            received += len(chunk)
            if length <= MAX_BYTES:
                content += chunk
        if length > MAX_BYTES:
            raise InputError(f"it has more than {MAX_BYTES // 10**6} MB: reduce it")
        return bytes(content)

    def end_headers(self) -> None:
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def _send(self, content_type: str, content: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass  # a line for every stroke would bury the errors


class Server(ThreadingTCPServer):
    daemon_threads = True  # Ctrl-C doesn't wait for clients
    allow_reuse_address = os.name == "posix"  # on Windows, it would let two servers share a port

    def __init__(self, port: int, model: Model) -> None:
        super().__init__((HOST, port), Handler)
        port = self.server_address[1]
        self.names = {f"{name}:{port}".removesuffix(":80") for name in (HOST, "localhost")}
        self.model = _for_threads(model)
        self.free = Semaphore(MAX_PICTURES)

    def read(self, content: bytes, multiple: bool) -> dict[str, Any]:
        """Read the picture in a file's `content`. The result is what `predict --format json`
        prints. The picture's class, or each of its `digits`, also has its `probabilities` by name
        and the `image` the network saw as a PNG in a data URL.

        Raises:
            InputError: the picture can't be read, or the server is still busy after MAX_WAIT.
        """
        if not self.free.acquire(timeout=MAX_WAIT):
            raise InputError("the demo is busy with other pictures: try again in a few seconds")
        try:
            answer = find_answer(self.model, io.BytesIO(content), multiple)
        finally:
            self.free.release()
        described = answer.describe()
        if isinstance(answer, Classification):
            described["probabilities"] = _rounded(answer.likeliest)
            described["image"] = _data_url(answer.image)
        else:
            for digit, found in zip(described["digits"], answer.answers, strict=True):
                shares = enumerate(found.probabilities)
                digit["probabilities"] = _rounded((str(name), share) for name, share in shares)
                digit["image"] = _data_url(found.image)
        return {**described, "error": None}

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # the page was just closed
            super().handle_error(request, client_address)


def _for_threads(model: Model) -> Model:
    """Let only one thread at a time use a model: LiteRT interpreters are not thread-safe."""
    lock = Lock()

    def predict_batch(images: ImageBatch) -> Probabilities:
        with lock:
            return model.predict_batch(images)

    return replace(model, predict_batch=predict_batch)


def _rounded(probabilities: Iterable[tuple[str, float]]) -> list[tuple[str, float]]:
    return [(name, round(float(share), 4)) for name, share in probabilities]


def _data_url(image: ImageBatch) -> str:
    file = io.BytesIO()
    pixels = (255 * image).round().astype(np.uint8)
    Image.fromarray(pixels.squeeze(axis=2) if pixels.shape[2] == 1 else pixels).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "mnist-cnn-demo",
        description="Serve a page for drawing digits or dropping pictures, on this machine only.",
    )
    add_model_option(parser)
    port_help = "port to listen on, or 0 for any free one (default: %(default)s)"
    parser.add_argument("--port", type=int, default=PORT, help=port_help)
    return parser.parse_args()


if __name__ == "__main__":
    main()
