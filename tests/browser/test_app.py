"""Lesson 10 as the app that `make app` shows: Voilà, Chromium, mouse and keyboard."""

import os
import re
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import barriers
import pytest
from lesson_page import VIEW
from lesson_run import running
from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, Request, expect

ROOT = Path(__file__).parents[2]
STARTING, ANSWER = 240_000, 30_000  # milliseconds: until the app stands, until a result has come
# The dashboard measures fewer images here than in the lesson, whose figures nbval compares: more
# than those of an estimate, which comes first.
IMAGES = "x_test, data.y_test", "x_test[:2000], data.y_test[:2000]"


@pytest.fixture(scope="module")
def server(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The app on a copy of the notebook: its address and its folder."""
    folder = tmp_path_factory.mktemp("app")
    notebook = folder / "10_quantization_lab.ipynb"
    text = (ROOT / "notebooks" / notebook.name).read_text(encoding="utf-8")
    assert text.count(IMAGES[0]) == 1
    notebook.write_text(text.replace(*IMAGES), encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    app = str(ROOT / "quant_tutorial" / "web" / "app")
    # After it the kernels of `forked_kernels`, if there are any.
    paths = os.pathsep.join(filter(None, [app, os.environ.get("JUPYTER_PATH")]))
    environment = {"JUPYTER_CONFIG_PATH": app, "JUPYTER_PATH": paths}
    command = [sys.executable, "-m", "voila", notebook, "--no-browser", f"--port={port}"]
    with running(command, folder, environment):
        yield f"http://127.0.0.1:{port}/", folder


@pytest.fixture(scope="module")
def wrong() -> list[str]:
    """What the page complains of, and what it asks for from elsewhere."""
    return []


@pytest.fixture(scope="module")
def page(server: tuple[str, Path], browser: Browser, wrong: list[str]) -> Iterator[Page]:
    # Whoever wants no motion waits without a turning wheel, which takes as much of the processor
    # as the kernel.
    page, (address, folder) = browser.new_page(viewport=VIEW, reduced_motion="reduce"), server

    def console(message: ConsoleMessage) -> None:
        if message.type == "error":
            wrong.append(message.text)

    def request(request: Request) -> None:
        if not request.url.startswith((address, "data:", "blob:")):
            wrong.append(request.url)

    page.on("console", console)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", request)
    for _ in range(STARTING // 500):
        try:
            with socket.create_connection(address.removesuffix("/")[7:].split(":"), 1):
                break
        except OSError:
            page.wait_for_timeout(500)
    else:
        pytest.fail(f"Voilà did not start: {(folder / 'log.txt').read_text()[-2000:]}")
    page.goto(address, timeout=STARTING)
    page.locator(".quant-explorer img").first.wait_for(timeout=STARTING)
    yield page
    page.close()


@pytest.fixture
def lab(page: Page) -> Locator:
    """The dashboard at its first preset, with an empty canvas."""
    root = page.locator(".quant-explorer")
    root.get_by_role("button", name="8-bit deploy").click()
    root.get_by_role("button", name="Clear").click()
    said(root, r"\(PTQ\)\. Weights 8 bits .* of 2,000 images right.*The canvas is empty\.")
    return root


def said(root: Locator, pattern: str) -> None:
    """Wait until the picture's text says something; the sentence beneath says the same."""
    expect(root.locator("img").first).to_have_attribute(
        "alt", re.compile(pattern, re.DOTALL), timeout=ANSWER
    )


def test_the_dashboard_stands_alone(page: Page) -> None:
    assert page.locator(".quant-explorer").count() == 1
    (heading,) = page.get_by_role("heading").all_text_contents()
    assert heading.startswith("The quantization lab")  # after it the mark of an anchor
    text = page.locator("body").inner_text()
    assert "Predict" not in text
    assert "QuantizationLab(lab)" not in text
    width = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    assert width <= 0, f"{width} pixels wider than the window"
    if folder := os.environ.get("QUANT_TUTORIAL_SCREENSHOTS"):
        page.screenshot(path=Path(folder) / "app.png", full_page=True)


def test_presets(lab: Locator) -> None:
    lab.get_by_role("button", name="where PTQ breaks").click()
    said(lab, r"\(PTQ\)\. Weights 2 bits .* 24\.\d% of 2,000 images right")
    lab.get_by_role("button", name="rescued by QAT").click()
    said(lab, r"Trained at W2A2 \(QAT\), 9 of 9 ranges their own.* 98\.\d% of 2,000 images right")
    assert lab.get_by_role("slider", name="conv2 weight bits").get_attribute("aria-valuenow") == (
        "2.0"
    )


def test_a_digit_drawn_with_the_mouse(lab: Locator, page: Page) -> None:
    box = lab.get_by_label("Canvas to draw a digit").bounding_box()

    def at(x: float, y: float) -> tuple[float, float]:
        return box["x"] + x * box["width"], box["y"] + y * box["height"]

    page.mouse.move(*at(0.5, 0.2))
    page.mouse.down()
    page.mouse.move(*at(0.5, 0.8), steps=20)
    page.mouse.up()
    said(lab, r"Both models classify the drawing as 1\.")
    lab.get_by_role("button", name="where PTQ breaks").click()
    said(lab, r"24\.\d% of 2,000 .*classif.* the drawing as \d")


def test_a_digit_drawn_with_keys(lab: Locator, page: Page) -> None:
    lab.get_by_label("Canvas to draw a digit").focus()
    for key in [*["ArrowUp"] * 7, "Space", *["ArrowDown"] * 14, "Escape", "ArrowRight"]:
        page.keyboard.press(key)
    said(lab, r"Both models classify the drawing as 1\.")
    assert "Pen up" in lab.get_by_role("status").all_inner_texts()[-1]
    page.keyboard.press("Delete")
    said(lab, r"The canvas is empty\.")


def test_an_image_that_is_answered_otherwise(lab: Locator) -> None:
    lab.get_by_role("button", name="where PTQ breaks").click()
    said(lab, r"24\.\d% of 2,000 images right")
    lab.get_by_role("button", name="Load a flipped image").click()
    said(lab, r"The float model classifies the drawing as (\d), the quantized one as (?!\1)\d")


def test_export(lab: Locator, server: tuple[str, Path], page: Page) -> None:
    lab.get_by_role("button", name="Export this").click()
    done = lab.get_by_role("status").filter(has_text="LiteRT gets 99.2% of 2,000 images right")
    done.wait_for(timeout=ANSWER)
    content = (server[1] / "saved" / "lab_PTQ_w8_a8.tflite").read_bytes()
    with page.expect_download() as download:
        done.get_by_role("link", name="Download it").click()
    assert Path(download.value.path()).read_bytes() == content
    lab.get_by_role("button", name="where PTQ breaks").click()
    said(lab, r"24\.\d% of 2,000 images right")
    lab.get_by_role("button", name="Export this").click()
    refused = lab.get_by_role("status").filter(has_text="Not exported. The activations of conv1")
    refused.wait_for(timeout=ANSWER)


def test_no_serious_accessibility_violation(page: Page) -> None:
    assert barriers.serious(page, ".quant-explorer") == {}


def test_nothing_went_wrong(page: Page, wrong: list[str]) -> None:
    # The last test, for all that the others have done.
    assert not wrong, "\n".join(wrong)
