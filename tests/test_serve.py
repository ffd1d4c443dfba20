"""The server of `make read`, and the workflow that publishes the same pages."""

import http.client
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from quant_tutorial.web import serve

import pytest
import yaml

ROOT = Path(__file__).parent.parent


@pytest.fixture
def site(tmp_path: Path) -> Path:
    folder = tmp_path / "site"
    (folder / "_static").mkdir(parents=True)
    (tmp_path / "secret.txt").write_text("not for readers")
    for name in ("index.html", "_static/page.js", "_static/stage.wasm", "_static/a.webp"):
        (folder / name).write_text(name)
    return folder


@pytest.fixture
def port(site: Path) -> Iterator[int]:
    server = serve.server(site, port=0)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def get(port: int, path: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", path)
    return connection.getresponse()


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "text/html"),
        ("/_static/page.js", "text/javascript"),
        ("/_static/stage.wasm", "application/wasm"),
        ("/_static/a.webp", "image/webp"),
    ],
)
def test_files_have_their_types(port: int, path: str, kind: str) -> None:
    response = get(port, path)
    assert response.status == 200
    assert response.getheader("Content-Type") == kind
    assert response.getheader("Cache-Control") == "no-cache"
    assert response.read().decode() == (path[1:] or "index.html")


@pytest.mark.parametrize("path", ["/missing.html", "/../secret.txt", "/%2e%2e/secret.txt"])
def test_nothing_else_is_served(port: int, path: str) -> None:
    assert get(port, path).status == 404


def test_a_reader_who_leaves_early_is_no_error(
    site: Path, port: int, capfd: pytest.CaptureFixture[str]
) -> None:
    (site / "large.bin").write_bytes(bytes(20_000_000))
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/large.bin")
    response = connection.getresponse()
    response.read(1000)
    response.close()
    connection.close()
    assert get(port, "/").status == 200
    time.sleep(0.2)  # until the server, which writes in another thread, has met the closed end
    assert capfd.readouterr() == ("", "")


def test_a_port_that_is_taken_gives_way_to_a_free_one(site: Path, port: int) -> None:
    with serve.server(site, port) as other:
        assert other.server_address[0] == "127.0.0.1"  # reached from this machine only
        assert other.server_port != port


def test_a_site_is_current_until_a_source_is_newer(site: Path, tmp_path: Path) -> None:
    assert serve.is_current(site)
    page = site / "index.html"
    source = (ROOT / "notebooks" / "00_start_here.ipynb").stat().st_mtime
    os.utime(page, (source - 1, source - 1))
    assert not serve.is_current(site)
    assert not serve.is_current(tmp_path / "none")


def test_a_site_that_is_not_current_is_built_first(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(folder: Path) -> None:
        raise RuntimeError(f"{folder} is to be built")

    monkeypatch.setattr(serve.build, "build", build)
    monkeypatch.setattr(sys, "argv", ["serve", "--site", str(site)])
    (site / "index.html").unlink()
    with pytest.raises(SystemExit, match=rf"^{re.escape(str(site))} is to be built$"):
        serve.main()


def test_the_command_says_where_it_serves(site: Path) -> None:
    command = [sys.executable, "-m", "quant_tutorial.web.serve", "--site", site, "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        line = process.stdout.readline()
        (port,) = re.findall(r"^Read the course at http://127\.0\.0\.1:(\d+)/$", line)
        assert get(int(port), "/").read() == b"index.html"
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


def test_the_workflow_publishes_what_make_site_builds() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "pages.yml").read_text("utf-8"))
    steps = workflow["jobs"]["publish"]["steps"]
    assert [step["run"] for step in steps if "run" in step] == ["make site"]
    uploaded = [step["with"]["path"] for step in steps if "upload-pages" in step.get("uses", "")]
    assert uploaded == ["build/site"]
    kept = [step["with"]["path"] for step in steps if "cache" in step.get("uses", "")]
    assert kept == ["build/frames"]
