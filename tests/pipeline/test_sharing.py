"""Pushed data can be pulled from a folder or a server, and damage is detected."""

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.helpers import commit_all, run, succeed


@pytest.fixture(params=["folder", "WebDAV"])
def remote(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """The URL of an empty remote, and the folder with its objects."""
    folder = tmp_path / "storage"
    folder.mkdir()
    if request.param == "folder":
        yield str(folder), folder
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(Path(sys.executable).with_name("wsgidav")), "--no-config"]
    options = ["--host=127.0.0.1", f"--port={port}", f"--root={folder}", "--auth=anonymous"]
    server = subprocess.Popen([*command, *options], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while socket.socket().connect_ex(("127.0.0.1", port)):
        assert server.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    yield f"webdav://127.0.0.1:{port}", folder
    server.kill()
    server.wait()


def outputs(clone: Path) -> dict[str, bytes]:
    files = [file for place in ("data/prepared", "models") for file in (clone / place).rglob("*")]
    return {str(file.relative_to(clone)): file.read_bytes() for file in files if file.is_file()}


def model_object(clone: Path) -> str:
    """Return the path of models/model.keras in DVC's cache or remote."""
    outs = yaml.safe_load((clone / "dvc.lock").read_text())["stages"]["train"]["outs"]
    (md5,) = (out["md5"] for out in outs if out["path"] == "models/model.keras")
    return f"{md5[:2]}/{md5[2:]}"


def test_what_is_pushed_can_be_pulled_and_damage_is_named(
    small_pipeline: Path, remote: tuple[str, Path], tmp_path: Path
) -> None:
    url, storage = remote
    publisher = shutil.copytree(small_pipeline, tmp_path / "publisher")
    succeed(publisher, "dvc", "remote", "add", "--default", "storage", url)
    succeed(publisher, "dvc", "remote", "modify", "storage", "verify", "true")
    commit_all(publisher)
    succeed(publisher, "dvc", "push")

    reader = tmp_path / "reader"
    succeed(tmp_path, "git", "clone", "--quiet", str(publisher), str(reader))
    succeed(reader, "dvc", "pull")
    assert outputs(reader) == outputs(publisher)
    assert "Running stage" not in succeed(reader, "dvc", "repro")
    assert succeed(reader, "git", "status", "--short") == ""

    (damaged,) = storage.rglob(model_object(publisher))
    damaged.chmod(0o644)
    damaged.write_bytes(damaged.read_bytes().replace(b"PK", b"pk"))
    other = tmp_path / "other"
    succeed(tmp_path, "git", "clone", "--quiet", str(publisher), str(other))
    done = run(other, "dvc", "pull")
    assert done.returncode != 0
    assert "models/model.keras" in done.stderr
    assert not (other / "models/model.keras").exists()


def test_damage_in_the_cache_is_named(small_pipeline: Path, tmp_path: Path) -> None:
    clone = shutil.copytree(small_pipeline, tmp_path / "clone")
    cached = clone / ".dvc/cache/files/md5" / model_object(clone)
    cached.chmod(0o644)
    cached.write_bytes(cached.read_bytes()[:-1])
    (clone / "models/model.keras").unlink()
    run(clone, "dvc", "checkout")
    assert "models/model.keras" in succeed(clone, "dvc", "status")
