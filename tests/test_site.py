"""The web edition: built once, with few frames, and then read as a reader without a kernel does."""

import ast
import copy
import json
import math
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import cache, partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

from quant_tutorial.web import build, frames, links, mathml, serve, sources

import barriers
import ipywidgets as widgets
import pytest
from bs4 import BeautifulSoup, Tag
from lesson_run import FRAMES, shared_folder
from PIL import Image
from playwright.sync_api import Browser, Page, Request

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
BUILD = [sys.executable, "-m", "quant_tutorial.web.build"]
LESSONS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
SOLUTIONS = sorted((ROOT / "notebooks" / "solutions").glob("[0-9]*.ipynb"))
NOTEBOOKS = [*LESSONS, *SOLUTIONS]
PNG = "image/png"
# An image that gets another source meanwhile is decoded again.
DECODED = """async image => {
  for (let tries = 0; ; tries++) {
    try { await image.decode(); break; } catch (error) { if (tries === 4) throw error; }
  }
  return [image.getAttribute("src"), image.alt, image.naturalWidth];
}"""
REFERENCE, TEACHING = (ROOT / "notebooks" / f"{name}.md" for name in ("reference", "teaching"))
README = ROOT / "README.md"


def named(path: Path) -> str:
    return path.relative_to(ROOT / "notebooks").as_posix()


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def source(cell: dict[str, Any]) -> str:
    return "".join(cell["source"])


def explorers(path: Path) -> list[tuple[bool, str]]:
    """Of the cells that show an explorer: whether it steps, and its sentence.

    A picture that is updated while its cell runs has nothing to step through, and the tag
    "site-static" says that of any other.
    """
    return [
        (
            "display_id=" not in source(cell)
            and "site-static" not in cell["metadata"].get("tags", []),
            "".join(output["data"]["text/plain"]),
        )
        for cell in read(path)["cells"]
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
        and not "".join(output["data"]["text/plain"]).startswith("<Figure")
    ]


def is_collapsed(cell: dict[str, Any]) -> bool:
    return "hide-output" in cell["metadata"].get("tags", [])


WITH_COLLAPSED = [path for path in NOTEBOOKS if any(map(is_collapsed, read(path)["cells"]))]
WITH_EXPLORER = [path for path in NOTEBOOKS if explorers(path)]
every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=named)
every_explorer = pytest.mark.parametrize("path", WITH_EXPLORER, ids=named)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # The frames that nbval's kernels have left are found beside the site.
    folder = shared_folder(tmp_path_factory) / "site"
    # Of lesson 10's weights one stands for all: `test_live_model` has the others. It is that of the
    # preset whose file no other test makes.
    options = ["--frames", str(FRAMES), "--weights", "W2A8"]
    command = [*BUILD, "--output", folder, *options]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout == f"The pages are in {folder}. `make read` serves them on this machine.\n"
    assert run.stderr == ""
    return folder


@pytest.fixture(scope="module")
def page(browser: Browser) -> Page:
    return browser.new_page(viewport={"width": 1300, "height": 900})


def page_of(site: Path, path: Path) -> Path:
    return site / path.relative_to(ROOT).with_suffix(".html")


@cache  # parsing takes a good part of a second; who changes the result takes a copy
def parsed(site: Path, path: Path) -> BeautifulSoup:
    return BeautifulSoup(page_of(site, path).read_text(encoding="utf-8"), "html.parser")


def open_all(page: Page) -> None:
    page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")


def steps(figure: Tag) -> dict[str, Any]:
    return json.loads(figure.select_one("script[type='application/json']").string)


def test_a_checklist_has_boxes(tmp_path: Path) -> None:
    sources.prepare(tmp_path / "sources", tmp_path / "extra", {})
    cells = read(tmp_path / "sources" / "notebooks" / "12_your_own_model.ipynb")["cells"]
    lists = [source(cell) for cell in cells if "The float model gets the images" in source(cell)]
    lines = [line for text in lists for line in text.splitlines() if line.startswith("- ")]
    assert len(lines) >= 10
    assert all(line.startswith("- ☐ ") for line in lines)


class TestPages:
    @every_notebook
    def test_every_notebook_has_one(self, site: Path, path: Path) -> None:
        cells = read(path)["cells"]
        prose = "\n".join(source(cell) for cell in cells if cell["cell_type"] == "markdown")
        headings = re.findall(r"^#+ (.+)$", prose, re.M)
        article = copy.copy(parsed(site, path).select_one("article.bd-article"))
        for output in article.select("div.cell_output"):
            output.clear()  # may be Markdown with headings of its own
        for mark in article.select("a.headerlink"):
            mark.decompose()
        shown = [heading.get_text() for heading in article.select("h1, h2, h3, h4")]
        assert [re.sub(r"\W", "", h) for h in shown] == [re.sub(r"\W", "", h) for h in headings]
        code = [cell for cell in cells if cell["cell_type"] == "code" and source(cell)]
        assert len(article.select("div.cell_input")) == len(code)
        folded = article.select("details:not(.collapsed-output) > summary")
        assert len(folded) == prose.count("<details>")
        assert len(article.select("math")) == len(re.findall(r"\$\$.+?\$\$|\$.+?\$", prose, re.S))
        assert not re.search(r"\$|\\frac|\\sum", article.get_text().split("Exercises")[0])

    @pytest.mark.parametrize("path", WITH_COLLAPSED, ids=named)
    def test_outputs_that_answer_a_question_start_collapsed(self, site: Path, path: Path) -> None:
        code = [c for c in read(path)["cells"] if c["cell_type"] == "code" and source(c)]
        shown = parsed(site, path).select("article.bd-article div.cell")
        for cell, part in zip(code, shown, strict=True):
            folded = part.select("details.collapsed-output")
            assert len(folded) == is_collapsed(cell), cell["id"]
            for details in folded:
                assert not details.has_attr("open")
                assert part.select("div.cell_output") == details.select("div.cell_output")
                assert "Show the output" in details.summary.get_text()
                # Nothing stands for the empty output, which is there for JupyterLab.
                outputs = details.select_one("div.cell_output").find_all(recursive=False)
                assert len(outputs) == len(cell["outputs"]) - 1, cell["id"]

    @every_notebook
    def test_the_navigation_lists_all_in_the_course_s_order(self, site: Path, path: Path) -> None:
        here = page_of(site, path)
        links = parsed(site, path).select("nav.bd-links a[href]")
        listed = [(here.parent / a["href"].split("#")[0]).resolve() for a in links]
        # The entry of the page itself has no other address than "#".
        listed = [here if target == here.parent else target for target in listed]
        others = [*LESSONS, REFERENCE, *SOLUTIONS, TEACHING, README]
        pages = [page_of(site, other) for other in others]
        assert listed == [site / "index.html", *pages]

    @every_notebook
    def test_every_picture_says_what_it_shows(self, site: Path, path: Path) -> None:
        outputs = [o for cell in read(path)["cells"] for o in cell.get("outputs", [])]
        count = sum(PNG in output.get("data", {}) for output in outputs)
        images = parsed(site, path).select("article.bd-article img")
        assert len(images) == count
        sizes = [o["metadata"].get(PNG) for o in outputs if PNG in o.get("data", {})]
        for image, size in zip(images, sizes, strict=True):
            assert len(image["alt"].split()) >= 8
            with Image.open(page_of(site, path).parent / image["src"]) as picture:
                width, height = picture.size
            # Shown as large as in JupyterLab; test_notebooks has how large that is.
            expected = size or {"width": width, "height": height}
            assert {side: int(image[side]) for side in ("width", "height")} == expected

    def test_the_start_page_has_result_lessons_and_a_beginning(self, site: Path) -> None:
        soup = BeautifulSoup((site / "index.html").read_text(encoding="utf-8"), "html.parser")
        article = soup.select_one("article.bd-article")
        listed = [a["href"] for a in article.select(".course-lessons a")]
        assert listed == [page_of(site, path).relative_to(site).as_posix() for path in LESSONS]
        assert article.select_one("a.course-begin")["href"] == listed[0]
        # The explorer of lesson 05 steps here as it does there.
        (here,) = article.select("figure.explorer")
        (lesson,) = [path for path in LESSONS if path.stem.startswith("05")]
        there = parsed(site, lesson).select_one("figure.explorer")
        assert steps(here)["sentences"] == steps(there)["sentences"]
        assert all((site / picture).is_file() for picture in steps(here)["pictures"])
        assert "58.9 kB" in article.select_one("table").get_text()
        linked = {a["href"] for a in article.select("a[href]")}
        assert {"README.html", "notebooks/reference.html", "notebooks/teaching.html"} <= linked

    def test_the_links_hold(self, site: Path) -> None:
        assert links.problems(site) == []

    def test_a_link_that_does_not_hold_is_found(self, tmp_path: Path) -> None:
        defects = {
            '<a href="99_missing.html">': "leads nowhere",
            '<a href="../../../outside.html">': "leads nowhere",
            '<a href="#no-such-heading">': "names no anchor",
            '<a href="02_affine_quantization.html#nothing">': "names no anchor",
            '<img src="https://elsewhere.example/x.png">': "is loaded from elsewhere",
            '<script src="//elsewhere.example/x.js"></script>': "is loaded from elsewhere",
            '<link rel="stylesheet" href="https://elsewhere.example/x.css">': "from elsewhere",
            "<style>@import 'https://elsewhere.example/y.css';</style>": "from elsewhere",
            '<p style="background: url(missing.png)">': "leads nowhere",
            '<img srcset="03_small.webp 1x">': "leads nowhere",
            '<script type="application/json">{"pictures": ["gone.webp"]}</script>': "nowhere",
            '<div data-live="gone.json">': "leads nowhere",
        }
        held = (
            '<h1 id="A-heading">A</h1><a name="old"></a><a href="#A-heading"><a href="#old">'
            '<a href="../index.html#A-heading"><a href="https://elsewhere.example/page.html">'
            '<img src="../x.png" srcset="../x.png 1x"><img src="data:image/png;base64,AA==">'
            "<script>const text = '<img src=none.png>';</script>"
            '<script type="application/json">{"pictures": ["../x.png"]}</script>'
        )
        (tmp_path / "notebooks").mkdir()
        (tmp_path / "x.png").touch()
        (tmp_path / "index.html").write_text('<h1 id="A-heading">Start</h1>')
        broken = tmp_path / "notebooks" / "01_why_quantize.html"
        (broken.parent / "02_affine_quantization.html").write_text(held)
        broken.write_text(held)
        assert links.problems(tmp_path) == []
        broken.write_text(held + "".join(defects))
        found = links.problems(tmp_path)
        assert len(found) == len(defects)
        for defect, word in defects.items():
            address = re.search(r"""["'(]([^"'( ]+\.\w+(#\w+)?|#[\w-]+)["') ]""", defect)[1]
            (problem,) = [line for line in found if f": {address} " in line]
            assert problem.startswith("notebooks/01_why_quantize.html: ")
            assert word in problem


class TestExplorers:
    @every_explorer
    def test_each_stands_in_its_page(self, site: Path, path: Path) -> None:
        figures = parsed(site, path).select("figure.explorer")
        committed = [" ".join(sentence.split()) for _, sentence in explorers(path)]
        # Without a script the page shows what the notebook does.
        assert [figure.figcaption.get_text() for figure in figures] == committed
        assert [figure.img["alt"] for figure in figures] == committed

    @every_explorer
    def test_each_has_frames_to_step_through(self, site: Path, path: Path) -> None:
        figures = parsed(site, path).select("figure.explorer")
        for figure, (moves, sentence) in zip(figures, explorers(path), strict=True):
            assert (figure.script is not None) == moves
            # The picture that the notebook was committed with; all frames are as large.
            with Image.open(page_of(site, path).parent / figure.img["src"]) as committed:
                pixels = committed.size
            if not moves:
                continue
            told = steps(figure)
            shape = [len(axis["texts"]) for axis in told["axes"]]
            assert 2 <= math.prod(shape) <= FRAMES
            assert len(told["pictures"]) == len(told["sentences"]) == math.prod(shape)
            assert len(set(told["sentences"])) > 1
            start = 0
            for axis, count in zip(told["axes"], shape, strict=True):
                assert axis["label"]
                start = start * count + axis["start"]
            assert told["sentences"][start] == sentence
            pictures = set()
            for address in told["pictures"]:
                with Image.open(page_of(site, path).parent / address) as picture:
                    assert picture.size == pixels
                    pictures.add(picture.convert("RGB").tobytes())
            assert len(pictures) > 1

    @every_explorer
    def test_it_steps_from_the_keyboard(self, site: Path, page: Page, path: Path) -> None:
        page.goto(page_of(site, path).as_uri())
        open_all(page)
        for number, (moves, _) in enumerate(explorers(path)):
            if not moves:
                continue
            told = steps(parsed(site, path).select("figure.explorer")[number])
            figure = page.locator("figure.explorer").nth(number)
            axis, count = told["axes"][0], len(told["sentences"])
            first = figure.get_by_label(axis["label"], exact=True)
            first.focus()
            page.keyboard.press("End")
            page.keyboard.press("Home")
            stride = count // len(axis["texts"])
            for position in range(len(axis["texts"])):
                if position:
                    page.keyboard.press("ArrowDown" if axis["kind"] == "choice" else "ArrowRight")
                caption = figure.locator("figcaption")
                rest = told["sentences"][position * stride : (position + 1) * stride]
                page.wait_for_function(
                    "([caption, rest]) => rest.includes(caption.textContent)",
                    arg=[caption.element_handle(), rest],
                )
                shown = figure.locator("img").evaluate(DECODED)
                place = told["sentences"].index(caption.text_content(), position * stride)
                assert shown[:2] == [told["pictures"][place], told["sentences"][place]]
                assert shown[2] > 0
                if axis["kind"] == "range":
                    assert first.get_attribute("aria-valuetext") == axis["texts"][position]
            assert caption.get_attribute("aria-live") == "polite"

    def test_nothing_jumps(self, site: Path, page: Page) -> None:
        page.goto(page_of(site, WITH_EXPLORER[1]).as_uri())
        figure = page.locator("figure.explorer").first
        figure.locator("input[type=range]").first.focus()
        heights = set()
        for key in ["Home", *["ArrowRight"] * 5]:
            page.keyboard.press(key)
            page.wait_for_timeout(100)
            heights.add(figure.bounding_box()["height"])
        assert len(heights) == 1


# Takes everything out of a page but some of its elements and what they lie in.
LEAVE_ALONE = """wanted => {
  const kept = new Set();
  for (const found of document.querySelectorAll(wanted)) {
    for (let each = found; each; each = each.parentElement) kept.add(each);
  }
  kept.delete(document.documentElement);
  for (const parent of kept) {
    if (parent.matches(wanted)) continue;
    for (const child of [...parent.children]) if (!kept.has(child)) child.remove();
  }
}"""


def look_at(page: Page, scheme: str, width: int) -> None:
    """Give a page another width, and the colours of a light or a dark scheme.

    Between them the page, made for reduced motion, shows no others.
    """
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme=scheme)
    # The theme, which begins with what the browser wants, follows it.
    page.wait_for_function(
        "scheme => [scheme, undefined].includes(document.documentElement.dataset.theme)", arg=scheme
    )


class Visits(NamedTuple):
    """What came to light when all pages were opened, one after the other.

    Attributes:
        wrong: Errors, and what was asked for elsewhere or could not be loaded.
        widths: How wide each page is, in pixels.
        barriers: The serious ones in the explorers of a page that has some, in each of `VIEWS`.
    """

    wrong: list[str]
    widths: dict[Path, int]
    barriers: dict[Path, list[dict[str, list[str]]]]


# Colours and widths in which explorers are looked at: on the phone, and in a window.
VIEWS = (("light", 390), ("dark", 1300), ("light", 1300))


@pytest.fixture(scope="module")
def on_a_phone(site: Path, browser: Browser) -> Visits:
    """A visit to each page on a phone, from its file."""
    opened = browser.new_page(reduced_motion="reduce")
    found = Visits([], {}, {})

    def note(request: Request) -> None:
        if not request.url.startswith(("file://", "data:", "blob:")):
            found.wrong.append(request.url)

    opened.on("request", note)

    def fail(request: Request) -> None:
        # A page is left while its icon is still on the way.
        if request.failure != "net::ERR_ABORTED":
            found.wrong.append(f"{request.failure}: {request.url}")

    opened.on("requestfailed", fail)
    opened.on("pageerror", lambda error: found.wrong.append(str(error)))
    for path in [*site.glob("*.html"), *site.rglob("notebooks/**/*.html")]:
        look_at(opened, *VIEWS[0])
        opened.goto(path.as_uri())
        opened.evaluate("document.fonts.ready")
        found.widths[path] = opened.evaluate("document.documentElement.scrollWidth")
        if opened.locator("figure.explorer").count():
            open_all(opened)
            complaints = len(found.wrong)
            # The rest of the page, which takes axe longer than the explorers, has no part in it;
            # `TestServed` has whole pages.
            opened.evaluate(LEAVE_ALONE, "figure.explorer")
            found.barriers[path] = []
            for view in VIEWS:
                look_at(opened, *view)
                found.barriers[path].append(barriers.serious(opened, "figure.explorer"))
            # The theme misses the rest of the page, and may say so until the page is left.
            opened.goto("about:blank")
            del found.wrong[complaints:]
    opened.close()
    return found


class TestInTheBrowser:
    def test_pages_ask_for_nothing_from_elsewhere(self, on_a_phone: Visits) -> None:
        assert on_a_phone.wrong == []

    def test_no_page_is_wider_than_a_phone(self, site: Path, on_a_phone: Visits) -> None:
        pages = {page_of(site, path) for path in [*NOTEBOOKS, REFERENCE, TEACHING, README]}
        assert {site / "index.html", *pages} <= on_a_phone.widths.keys()
        wide = {path.name: width for path, width in on_a_phone.widths.items() if width > 390}
        assert wide == {}

    def test_the_search_finds_a_lesson(self, site: Path, page: Page) -> None:
        page.goto(f"{(site / 'search.html').as_uri()}?q=outlier")
        found = page.locator("#search-results li a[href*='03_calibration']").first
        found.wait_for()
        found.click()
        assert "03_calibration.html" in page.url

    def test_answers_fold(self, site: Path, page: Page) -> None:
        page.goto(page_of(site, LESSONS[1]).as_uri())
        details = page.locator("article details").first
        assert details.evaluate("d => d.open") is False
        details.locator("summary").focus()
        page.keyboard.press("Enter")
        assert details.evaluate("d => d.open") is True

    # `TestPages` sees that every page has the same elements for it.
    @pytest.mark.parametrize("path", [WITH_COLLAPSED[0], WITH_COLLAPSED[-1]], ids=named)
    @pytest.mark.parametrize("script", [True, False], ids=["", "without JavaScript"])
    def test_a_button_shows_an_output(
        self, site: Path, browser: Browser, path: Path, script: bool
    ) -> None:
        context = browser.new_context(java_script_enabled=script)
        opened = context.new_page()
        opened.goto(page_of(site, path).as_uri())
        for details in opened.locator("details.collapsed-output").all():
            button, output = details.locator("summary"), details.locator("div.cell_output")
            assert not output.is_visible()
            assert button.inner_text() == "Show the output"
            button.focus()
            opened.keyboard.press("Enter")
            assert output.is_visible()
            assert button.inner_text() == "Hide the output"
            button.click()
            assert not output.is_visible()
        context.close()

    def test_on_paper_all_outputs_are_shown(self, site: Path, page: Page) -> None:
        page.goto(page_of(site, WITH_COLLAPSED[0]).as_uri())
        page.emulate_media(media="print")
        for details in page.locator("article details").all():
            assert details.evaluate("d => d.open") is False
            # What is in it takes its place, and the button none.
            assert details.bounding_box()["height"] > 20
            is_output = "collapsed-output" in (details.get_attribute("class") or "")
            assert details.locator("summary").is_visible() != is_output
            assert not is_output or details.locator("div.cell_output").is_visible()
        page.emulate_media(media="screen")

    def test_an_explorer_in_a_collapsed_output_steps(self, site: Path, page: Page) -> None:
        # As myst-nb and `collapsing` write it; so far no lesson has one.
        text = page_of(site, WITH_EXPLORER[0]).read_text(encoding="utf-8")
        start, end = re.search('<figure class="explorer"[^>]*>', text)[0], "</figure>"
        button = '<details class="collapsed-output"><summary>Show the output</summary>'
        text = text.replace(start, button + start, 1).replace(end, f"{end}</details>", 1)
        changed = page_of(site, WITH_EXPLORER[0]).with_name("with_collapsed_explorer.html")
        changed.write_text(text, encoding="utf-8")
        page.goto(changed.as_uri())
        changed.unlink()
        figure = page.locator("figure.explorer").first
        slider, caption = figure.locator("input[type=range]").first, figure.locator("figcaption")
        assert not slider.is_visible()
        page.locator("details.collapsed-output > summary").first.press("Enter")
        before = caption.text_content()
        slider.press("End")
        page.wait_for_function(
            "([caption, before]) => caption.textContent !== before",
            arg=[caption.element_handle(), before],
        )
        assert figure.locator("img").evaluate("async i => (await i.decode(), i.naturalWidth)") > 0

    def test_a_link_leads_to_its_heading(self, site: Path, page: Page) -> None:
        (path,) = [path for path in LESSONS if path.stem == "02_affine_quantization"]
        page.goto(page_of(site, path).as_uri())
        page.get_by_role("link", name="Which way does a tie go?").first.click()
        heading = page.get_by_role("heading", name="Which way does a tie go?")
        page.wait_for_function(
            "h => Math.abs(h.getBoundingClientRect().top) < 200", arg=heading.element_handle()
        )

    def test_without_javascript_the_figure_stands_still(self, site: Path, browser: Browser) -> None:
        context = browser.new_context(java_script_enabled=False)
        opened = context.new_page()
        opened.goto(page_of(site, WITH_EXPLORER[0]).as_uri())
        figure = opened.locator("figure.explorer")
        assert figure.locator("img").is_visible()
        assert figure.locator("figcaption").is_visible()
        assert figure.locator("input").count() == 0
        context.close()

    def test_no_serious_accessibility_violation_in_an_explorer(
        self, site: Path, on_a_phone: Visits
    ) -> None:
        pages = {page_of(site, path) for path in WITH_EXPLORER}
        assert on_a_phone.barriers.keys() == {site / "index.html", *pages}
        for path, found in on_a_phone.barriers.items():
            assert found == [{} for _ in VIEWS], path.name


@pytest.fixture(scope="module")
def address(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The site on a server, in a folder of it, as a host may have it."""
    root = tmp_path_factory.mktemp("host")
    (root / "x").mkdir()
    (root / "x" / "y").symlink_to(site, target_is_directory=True)
    server = serve.server(root, port=0)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/x/y/"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def watched(browser: Browser, address: str) -> Iterator[tuple[Page, list[str]]]:
    """A page, and what goes wrong in it or is asked for outside the site."""
    wrong = []
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    inside = (address, "data:", "blob:")
    page.on("request", lambda asked: asked.url.startswith(inside) or wrong.append(asked.url))
    page.on("console", lambda said: said.type == "error" and wrong.append(said.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("requestfailed", lambda request: wrong.append(request.url))
    page.on("response", lambda response: response.status >= 400 and wrong.append(response.url))
    yield page, wrong
    page.close()


@pytest.fixture
def reader(watched: tuple[Page, list[str]]) -> Iterator[Page]:
    """A page in which nothing may go wrong, of a browser that has kept nothing of the course.

    It has the theme's files from the tests before, as that of most readers has.
    """
    page, wrong = watched
    wrong.clear()
    yield page
    assert wrong == []
    page.evaluate("localStorage.clear()")
    page.goto("about:blank")


READY = "html[data-reader=ready]"  # what `reader/page.js` says when it has done its work


def visit(page: Page, address: str) -> None:
    page.goto(address)
    page.wait_for_selector(READY, state="attached")


def opened(page: Page, address: str, lesson: str) -> None:
    """Open a lesson by its number."""
    (path,) = [path for path in LESSONS if path.stem.startswith(lesson)]
    visit(page, f"{address}notebooks/{path.stem}.html")


def done(page: Page, address: str, lesson: str) -> str:
    """Open the start page, and return what it says of a lesson."""
    visit(page, address)
    return page.locator(f"[data-lesson='{lesson}'] .course-done").inner_text()


# Gives to each question of a page the course's own answer, or the first other one.
ANSWER_ALL = """right => {
  for (const details of document.querySelectorAll("details.prediction")) {
    const form = details.previousElementSibling.querySelector("form");
    const rows = form.querySelectorAll("fieldset, .prediction-number, .prediction-text");
    JSON.parse(details.dataset.parts).forEach((part, i) => {
      const wanted = [part.answer ?? "because"].flat();
      for (const input of rows[i].querySelectorAll("input, textarea")) {
        if (!part.choices) input.value = right ? wanted[0] : Number(part.answer) + 1000;
        else if (wanted.includes(input.value) === right) input.checked = true;
      }
    });
    form.requestSubmit();
  }
}"""


OPEN = "all => all.map((details) => details.open)"
SEEN = "all => all.map((details) => details.open && details.checkVisibility())"
PARTS = "all => all.map((details) => details.dataset.parts)"


class TestQuestions:
    @pytest.mark.parametrize("path", LESSONS, ids=named)
    def test_every_question_takes_its_answer(self, address: str, reader: Page, path: Path) -> None:
        opened(reader, address, path.stem[:2])
        outputs = reader.locator("details.collapsed-output")
        asked = reader.locator("details.prediction")
        assert asked.count() > 0
        parts = json.loads(f"[{','.join(asked.evaluate_all(PARTS))}]")
        compared = sum(part["kind"] != "text" for each in parts for part in each)
        for right in (False, True) if path in (LESSONS[9], LESSONS[10]) else (True,):
            assert outputs.evaluate_all(OPEN) == [False] * sum(
                map(is_collapsed, read(path)["cells"])
            )
            assert reader.locator(".prediction-form").count() == asked.count()
            reader.evaluate(ANSWER_ALL, right)
            assert reader.locator(".prediction-result").count() == asked.count()
            assert reader.locator(".prediction-form").count() == 0
            assert all(asked.evaluate_all(SEEN) + outputs.evaluate_all(SEEN))
            agree, differ = (
                reader.locator(f".verdict-{name}").count() for name in ("agrees", "differs")
            )
            assert (agree, differ) == ((compared, 0) if right else (0, compared))
            if not right:
                again = reader.get_by_role("button", name="Ask me again")
                again.evaluate_all("all => all.forEach((each) => each.click())")

    def test_an_output_opens_only_after_the_answer(self, address: str, reader: Page) -> None:
        opened(reader, address, "01")
        place = reader.locator(".prediction-place").first
        answer = reader.locator("details.prediction").first
        output = reader.locator("details.collapsed-output").first
        button = output.locator("summary")
        assert not answer.is_visible()
        assert button.inner_text() == "Answer or skip the question to see the output"
        # From the keyboard: the button leads to the question.
        button.press("Enter")
        assert output.evaluate("d => d.open") is False
        assert reader.evaluate("document.activeElement.value") == "conv1"
        for key in ("ArrowRight", "ArrowRight", "Tab"):  # conv3, then the second part
            reader.keyboard.press(key)
        # What is missing is said, and nothing is shown.
        reader.keyboard.press("Enter")
        assert place.locator(".prediction-note").inner_text() == (
            "Most multiply-adds: Choose one of the answers."
        )
        assert output.evaluate("d => d.open") is False
        for key in ("ArrowRight", "Tab"):  # conv2, then the button
            reader.keyboard.press(key)
        focused = "getComputedStyle(document.activeElement)"
        assert reader.evaluate("document.activeElement.textContent") == "Compare"
        assert reader.evaluate(f"{focused}.outlineStyle") == "solid"
        reader.keyboard.press("Enter")
        said = place.locator("li").all_inner_texts()
        assert re.search("Most weights: .*conv3.*logits.*differs", said[0])
        assert re.search("Most multiply-adds: .*conv2.*conv2.*agrees", said[1])
        assert reader.evaluate("document.activeElement.className") == "prediction-result"
        for shown in (answer, output):
            assert shown.evaluate("d => d.open") is True
        # The next question is still to be answered.
        assert reader.locator(".prediction-form").count() == 2
        # It is kept, until the reader takes it back.
        reader.reload()
        reader.locator(".prediction-result").wait_for()
        assert place.locator("li").all_inner_texts() == said
        assert output.evaluate("d => d.open") is True
        place.get_by_role("button", name="Ask me again").click()
        assert output.evaluate("d => d.open") is False
        assert reader.locator(".prediction-form").count() == 3

    def test_a_question_can_be_skipped(self, address: str, reader: Page) -> None:
        opened(reader, address, "09")
        output = reader.locator("details.collapsed-output").first
        for left in (2, 1, 0):  # three questions of one cell, which one table answers
            assert output.evaluate("d => d.open") is False
            reader.get_by_role("button", name="Skip").first.click()
            assert output.evaluate("d => d.open") == (left == 0)
        assert "skipped" in reader.locator(".prediction-result").first.inner_text()
        assert "0 of 8 predicted" in done(reader, address, "09")

    def test_of_a_text_the_reader_is_the_judge(self, address: str, reader: Page) -> None:
        opened(reader, address, "04")
        place = reader.locator(".prediction-place", has=reader.locator("textarea"))
        place.locator("textarea").fill("<b>because</b> of conv1")
        place.get_by_role("button", name="Compare").click()
        result = reader.locator(".prediction-result")
        assert "<b>because</b> of conv1" in result.inner_text()
        result.get_by_label("yes").check()
        reader.reload()
        result.wait_for()
        assert result.get_by_label("yes").is_checked()
        assert "1 of 9 predicted, 1 of them right" in done(reader, address, "04")

    def test_the_start_page_shows_progress_and_forgets_it(self, address: str, reader: Page) -> None:
        visit(reader, address)
        begin = reader.locator("a.course-begin")
        clear = reader.get_by_role("button", name="Clear my progress")
        assert begin.inner_text() == "Begin with lesson 00"
        assert not clear.is_visible()
        opened(reader, address, "02")
        reader.evaluate(ANSWER_ALL, True)
        reader.get_by_label("I have done exercise 02.3.").check()
        visit(reader, address)
        line = reader.locator("[data-lesson='02'] .course-done")
        assert line.inner_text() == "6 of 6 predicted, 6 of them right; 1 of 8 exercises done"
        assert begin.inner_text() == "Go on with 02 Affine quantization"
        begin.click()
        reader.wait_for_url(f"{address}notebooks/02_affine_quantization.html")
        reader.wait_for_selector(READY, state="attached")
        assert reader.get_by_label("I have done exercise 02.3.").is_checked()
        reader.go_back()
        clear.wait_for()
        reader.once("dialog", lambda dialog: dialog.dismiss())
        clear.click()
        assert line.inner_text().startswith("6 of 6")
        reader.once("dialog", lambda dialog: dialog.accept())
        clear.click()
        assert line.inner_text() == "0 of 6 predicted; 0 of 8 exercises done"
        assert reader.locator(".course-kept").inner_text() == "Your progress is cleared."
        opened(reader, address, "02")
        assert reader.locator(".prediction-form").count() == 6

    @pytest.mark.parametrize(
        "broken",
        [
            "Object.defineProperty(self, 'localStorage', {get() {throw new Error('refused')}})",
            "Storage.prototype.setItem = () => { throw new Error('full') }",
        ],
        ids=["refused", "full"],
    )
    def test_without_storage_it_asks_all_the_same(
        self, address: str, browser: Browser, broken: str
    ) -> None:
        # The theme, too, uses the storage, and stops with an error; what is ours does not.
        page = browser.new_page()
        page.add_init_script(broken)
        opened(page, address, "01")
        page.get_by_role("button", name="Skip").first.click()
        assert "keeps nothing" in page.locator(".prediction-result").inner_text()
        assert page.locator("details.collapsed-output").first.evaluate("d => d.open") is True
        page.get_by_label("I have done exercise 01.1.").check()
        assert "0 of 3 predicted" in done(page, address, "01")
        page.close()

    def test_without_javascript_nothing_is_asked(self, address: str, browser: Browser) -> None:
        context = browser.new_context(java_script_enabled=False)
        page = context.new_page()
        page.goto(f"{address}notebooks/01_why_quantize.html")
        for details in page.locator("details.prediction, details.collapsed-output").all():
            assert details.locator("summary").is_visible()
        assert page.locator("form.prediction-form").count() == 0
        context.close()

    def test_a_page_from_a_file_says_what_it_lacks(self, site: Path, page: Page) -> None:
        page.goto(page_of(site, LESSONS[1]).as_uri())
        assert "make read" in page.locator(".file-note").inner_text()
        assert page.locator("details.prediction > summary").first.is_visible()
        page.goto(page_of(site, REFERENCE).as_uri())
        assert page.locator(".file-note").count() == 0


class TestServed:
    def test_the_other_pages_work_in_a_folder_of_a_host(
        self, site: Path, address: str, reader: Page
    ) -> None:
        # `TestQuestions` opens every lesson there.
        others = [page_of(site, path) for path in (REFERENCE, TEACHING, SOLUTIONS[0])]
        for path in [*site.glob("*.html"), *others]:
            visit(reader, address + path.relative_to(site).as_posix())
            reader.evaluate("document.fonts.ready")

    @pytest.mark.parametrize(
        ("number", "views"),
        [
            (None, [("dark", 400), ("dark", 800), ("light", 1400)]),
            ("01", [("dark", 800)]),
            ("02", [("light", 1400)]),
            ("09", [("dark", 400), ("light", 1400)]),
        ],
    )
    def test_no_serious_accessibility_violation(
        self, address: str, browser: Browser, number: str | None, views: list[tuple[str, int]]
    ) -> None:
        scheme, width = views[0]
        viewport = {"width": width, "height": 900}
        page = browser.new_page(color_scheme=scheme, viewport=viewport, reduced_motion="reduce")
        if number is None:
            visit(page, address)
        else:
            opened(page, address, number)
            # One question is over, the others are still asked.
            page.get_by_role("button", name="Skip").first.press("Enter")
        for scheme, width in views:
            look_at(page, scheme, width)
            assert barriers.serious(page) == {}, (scheme, width)
            assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.close()

    def test_reduced_motion_is_respected(self, address: str, browser: Browser) -> None:
        context = browser.new_context(reduced_motion="reduce")
        page = context.new_page()
        opened(page, address, "02")
        assert page.evaluate("getComputedStyle(document.documentElement).scrollBehavior") == "auto"
        longest = page.evaluate(
            "Math.max(...[...document.querySelectorAll('*')].flatMap(e => {"
            "  const style = getComputedStyle(e);"
            "  return `${style.transitionDuration},${style.animationDuration}`.split(',');"
            "}).map(text => parseFloat(text) || 0))"
        )
        assert longest < 0.01  # seconds
        context.close()


class TestFrames:
    @pytest.mark.parametrize(
        ("code", "kept"),
        [
            ("x = 1; y = 2; print(x, y)", "x = 1"),
            ("a = 2; x = a; b = 3", "a = 2; x = a"),
            ("x = []; x.append(1); print(x)", "x = []; x.append(1)"),
            ("x = [0]; x[0] = 1", "x = [0]; x[0] = 1"),
            ("m = make(); x = m; train(m); plt.show(m)", "m = make(); x = m; train(m)"),
            ("import a.b, c; x = a.f()", "import a.b, c; x = a.f()"),
            ("k = 1\ndef f(): return k\nx = f()", "k = 1\ndef f(): return k\nx = f()"),
            ("x = 1; y = x.f(); h = x.fit()", "x = 1; y = x.f(); h = x.fit()"),
            ("m = make(); y = measure(m, x)\nx = m.weights; print(m)", "m = make(); x = m.weights"),
            ("x = 1; x += 2", "x = 1; x += 2"),
            ("import m; x = 1; m.set(x); y.fit(x)", "import m; x = 1; m.set(x)"),
            ("for i in r: x = i\ny = 1", "for i in r: x = i"),
            ("n = 1\ny = [n for n in r]\nx = n", "n = 1\nx = n"),
            (
                "y = 1\ndef f(y):\n    x = y\n    return x\nx = f(2)",
                "def f(y):\n    x = y\n    return x\nx = f(2)",
            ),
        ],
    )
    def test_what_an_explorer_is_made_from(self, code: str, kept: str) -> None:
        statements = [(statement, "") for statement in ast.parse(code).body]
        found = [ast.unparse(statement) for statement, _ in frames.slice_for(statements, {"x"})]
        assert found == [ast.unparse(statement) for statement in ast.parse(kept).body]

    @staticmethod
    def notebook(*codes: str, said: str = "a sentence", tags: tuple = ()) -> dict[str, Any]:
        cells = [
            {"cell_type": "code", "id": f"c{n}", "source": code, "outputs": [], "metadata": {}}
            for n, code in enumerate(codes)
        ]
        cells[-1]["outputs"] = [{"data": {"image/png": "", "text/plain": said}}]
        cells[-1]["metadata"] = {"tags": list(tags)}
        return {"cells": cells}

    SETUP = "from quant_tutorial.explorers.affine import AffineExplorer"

    def test_an_explorer_that_says_something_new_is_refused(
        self,
    ) -> None:
        notebook = self.notebook(self.SETUP, "AffineExplorer(bits=5)")
        with pytest.raises(ValueError, match=r"c1 was committed with 'a sentence' .* make noteb"):
            frames.build(notebook, notebook["cells"][-1])

    def test_where_that_is_expected_it_is_not(
        self,
    ) -> None:
        notebook = self.notebook(
            self.SETUP, "AffineExplorer(bits=5)", tags=("nbval-ignore-output",)
        )
        assert frames.build(notebook, notebook["cells"][-1]).bits.value == 5

    def test_what_is_displayed_counts_and_not_what_follows(
        self,
    ) -> None:
        sentence = frames_text(5)
        code = "shown = AffineExplorer(bits=5)\ndisplay(shown)\nshown.bits.value = 3\n1 / 0"
        notebook = self.notebook(self.SETUP, code, said=sentence)
        assert frames.build(notebook, notebook["cells"][-1]).text == sentence

    def test_all_cells_are_run_where_some_are_not_enough(
        self,
    ) -> None:
        hidden = "globals().update(width=6)"  # no name that the explorer mentions
        notebook = self.notebook(
            self.SETUP, hidden, "AffineExplorer(bits=width)", said=frames_text(6)
        )
        assert frames.build(notebook, notebook["cells"][-1]).bits.value == 6

    def test_what_is_no_explorer_is_refused(
        self,
    ) -> None:
        notebook = self.notebook("x = 1", "x + 1")
        with pytest.raises(ValueError, match="int, which is no Explorer"):
            frames.build(notebook, notebook["cells"][-1])

    @pytest.mark.parametrize(
        ("count", "axes_count"), [(2, 1), (5, 1), (9, 1), (20, 1), (50, 2), (240, 3), (2000, 4)]
    )
    def test_as_many_frames_as_there_may_be(self, count: int, axes_count: int) -> None:
        from quant_tutorial.explorers.affine import AffineExplorer

        explorer = AffineExplorer(bits=7, value_range=(-4, 6), x=2.5)
        axes = frames.choose([axes for _, axes in frames.controls_of(explorer)], count)
        assert 2 <= math.prod(len(axis.values) for axis in axes) <= count
        start = [axis.values[axis.start] for axis in axes]
        assert start == [7, (-4, 6), 2.5, False][: len(axes)]
        assert len(axes) == axes_count

    def test_stepping_leaves_the_explorer_as_it_was(self, tmp_path: Path) -> None:
        from quant_tutorial.explorers.affine import AffineExplorer

        explorer = AffineExplorer(bits=7)
        said, png = explorer.text, explorer.png()
        stepped = frames.step(explorer, tmp_path, 10)
        assert (explorer.text, explorer.png()) == (said, png)
        assert {path.name for path in tmp_path.iterdir()} == set(stepped.pictures)
        assert stepped.still[0] == "Range: upper end"
        for bits in range(2, 9):
            assert any(sentence.startswith(f"{bits} bits:") for sentence in stepped.sentences)

    def test_presets_are_stepped_before_anything_else(self, tmp_path: Path) -> None:
        from quant_tutorial.explorers.affine import AffineExplorer

        class Preset(AffineExplorer):
            def __init__(self) -> None:
                super().__init__(bits=4)
                self.presets = {f"{n} bits": widgets.Button() for n in (8, 4, 2)}
                for name, button in self.presets.items():
                    button.on_click(lambda _, name=name: self.bits.set_trait("value", int(name[0])))

        stepped = frames.step(Preset(), tmp_path, 40)
        (axis,) = stepped.axes
        assert (axis.label, axis.texts, axis.start) == ("Preset", ("8 bits", "4 bits", "2 bits"), 1)
        assert [sentence[:6] for sentence in stepped.sentences] == ["8 bits", "4 bits", "2 bits"]
        assert "Bit width" in stepped.still

        elsewhere = Preset()
        elsewhere.bits.value = 5
        stepped = frames.step(elsewhere, tmp_path, 9)
        assert stepped.axes[0].label == "Bit width"
        assert elsewhere.bits.value == 5


def frames_text(bits: int) -> str:
    from quant_tutorial.explorers.affine import AffineExplorer

    return AffineExplorer(bits=bits).text


def test_frames_depend_on_the_package_and_not_on_what_python_caches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "HERE", tmp_path / "web")
    for name in ("web/frames.py", "affine.py", "__pycache__/affine.cpython-311.pyc"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    last = {"cell_type": "code", "source": "x"}
    before = build._fingerprint({"cells": [last]}, last, 3)
    # As Python names such a file while it writes it.
    (tmp_path / "__pycache__/scheme.cpython-311.pyc.140234").write_text("half of it")
    assert build._fingerprint({"cells": [last]}, last, 3) == before
    (tmp_path / "affine.py").write_text("another version")
    assert build._fingerprint({"cells": [last]}, last, 3) != before


def test_another_folder_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    command = [*BUILD, "--output", tmp_path]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode != 0
    assert f"{tmp_path}, which is no site" in run.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def served(site: Path) -> Iterator[str]:
    """The site on loopback: its address."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=site)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


class TestLive:
    """Over HTTP, where explorers live; tests/browser has what they do."""

    @pytest.mark.parametrize("stem", ["02_affine_", "03_calibration", "04_granularity"])
    def test_the_explorer_lives_and_says_what_the_notebook_does(
        self, site: Path, served: str, browser: Browser, stem: str
    ) -> None:
        (path,) = [path for path in LESSONS if path.stem.startswith(stem)]
        page, wrong = browser.new_page(), []
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(f"{served}/{page_of(site, path).relative_to(site).as_posix()}")
        page.wait_for_selector("html[data-live=started]", state="attached")
        figure = page.locator("figure.explorer.explorer-lives")
        (_, sentence), *_ = explorers(path)
        assert figure.locator("figcaption").text_content() == sentence
        assert figure.locator("svg[role=img]").is_visible()
        assert figure.locator("img").count() == 0
        figure.get_by_role("slider").first.press("ArrowRight")
        page.wait_for_function(
            "([caption, before]) => caption.textContent !== before",
            arg=[figure.locator("figcaption").element_handle(), sentence],
        )
        assert wrong == []
        page.close()

    def test_from_a_file_it_steps(self, site: Path, page: Page) -> None:
        (path,) = [path for path in LESSONS if path.stem.startswith("02")]
        page.goto(page_of(site, path).as_uri())
        assert page.locator("figure.explorer[data-live] .explorer-picture img").is_visible()
        assert page.locator("figure.explorer .explorer-controls input").count() > 0
        assert page.locator("html[data-live]").count() == 0


class TestFormulas:
    @pytest.mark.parametrize("tex", [r"\Big( x \Big)", r"\big[ x \big]", r"\Bigg\{ x \Bigg\}"])
    def test_big_brackets(self, tex: str) -> None:
        made = mathml.mathml(tex, block=False)
        assert made.startswith("<math")
        assert len(re.findall(r"<mo [^>]*size", made)) == 2

    def test_an_unknown_command_is_an_error(self) -> None:
        from docutils.utils.math import MathError

        with pytest.raises(MathError, match="nosuch"):
            mathml.mathml(r"\nosuch", block=True)
