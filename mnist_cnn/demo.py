"""`python -m mnist_cnn.demo`: a page to draw digits on, or to drop pictures of them.

It is there for this machine alone: on the loopback address, and the page loads nothing from
anywhere else. demo.html is the page; it posts a picture and gets what `read` returns.
"""

import argparse
import base64
import contextlib
import io
import json
import os
import sys
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingTCPServer
from threading import Lock
from typing import Any

import numpy as np
from PIL import Image

from mnist_cnn.errors import InputError, reported
from mnist_cnn.pictures import find_digits
from mnist_cnn.predict import MODEL, as_answers
from mnist_cnn.runtimes import Batch, Model, load_model

HOST, PORT = "127.0.0.1", 8000
PAGE = Path(__file__).with_suffix(".html")
MAX_BYTES = 20_000_000


@reported
def main() -> None:
    arguments = _parse_arguments()
    model = load_model(arguments.model)
    try:
        server = Server(arguments.port, model)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"port {arguments.port} cannot be used ({reason}): stop what uses it, or name another "
            "with --port"
        ) from error
    with server, contextlib.suppress(KeyboardInterrupt):
        print(f"http://{HOST}:{server.server_address[1]}/  (Ctrl-C ends it)", flush=True)
        server.serve_forever()


def read(model: Model, content: bytes, multiple: bool) -> dict[str, Any]:
    """What `model` makes of a picture: `digits`, each as `predict --format json` prints it with its
    `probabilities` and, as a PNG's data URL, the `image` that the network saw; or an `error`."""
    try:
        digits = find_digits(io.BytesIO(content), multiple)
    except InputError as error:
        return {"digits": [], "error": str(error)}
    probabilities = model(np.stack([digit.image for digit in digits]))
    answers = as_answers(digits, probabilities)
    for answer, digit, row in zip(answers, digits, probabilities, strict=True):
        answer["probabilities"] = [round(float(share), 4) for share in row]
        answer["image"] = _data_url(digit.image)
    return {"digits": answers, "error": None}


def _data_url(image: Batch) -> str:
    file = io.BytesIO()
    Image.fromarray((255 * image[..., 0]).round().astype(np.uint8)).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


class Handler(BaseHTTPRequestHandler):
    server: "Server"
    timeout = 60  # seconds until a client that says nothing is left

    def do_GET(self) -> None:
        if self.path == "/":
            self._answer("text/html; charset=utf-8", PAGE.read_bytes())
        else:
            self.send_error(404)

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal():
            self.send_error(411)
        elif int(length) > MAX_BYTES:
            self._skip(int(length))  # the browser listens only when it has sent everything
            error = f"it has more than {MAX_BYTES // 10**6} MB: reduce it"
            self._answer_json({"digits": [], "error": error})
        else:
            content = self.rfile.read(int(length))
            with self.server.lock:
                answer = read(self.server.model, content, self.path.endswith("?multiple=true"))
            self._answer_json(answer)

    def _skip(self, length: int) -> None:
        while length > 0 and (chunk := self.rfile.read(min(length, 1 << 16))):
            length -= len(chunk)

    def _answer_json(self, answer: dict[str, Any]) -> None:
        self._answer("application/json", json.dumps(answer).encode())

    def _answer(self, kind: str, content: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass  # a line for each stroke would bury an error


class Server(ThreadingTCPServer):
    daemon_threads = True  # Ctrl-C does not wait for a client
    allow_reuse_address = os.name == "posix"  # elsewhere two could then have the same port

    def __init__(self, port: int, model: Model) -> None:
        super().__init__((HOST, port), Handler)
        self.model = model
        # One picture at a time: a LiteRT model stands no more, and large pictures take memory.
        self.lock = Lock()

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # the page was just closed
            super().handle_error(request, client_address)


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m mnist_cnn.demo", description="Serve a page to draw digits on, to this machine."
    )
    parser.add_argument(
        "--model", type=Path, default=MODEL, help="an .onnx, .tflite or .keras file (%(default)s)"
    )
    parser.add_argument("--port", type=int, default=PORT, help="(%(default)s); 0: any free one")
    return parser.parse_args()


if __name__ == "__main__":
    main()
