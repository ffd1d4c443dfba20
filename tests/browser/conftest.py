"""A browser to drive JupyterLab and the app with.

The tests here need Chromium on the PATH (Debian's package `chromium`). Where there is none they are
skipped, except with CI set in the environment, as `.ci/run` sets it: there they fail.

The browser lasts for one module: while Playwright runs, asyncio takes its loop for the thread's
own, and other tests could start none.
"""

from collections.abc import Iterator

import pytest
from playwright.sync_api import BrowserContext, sync_playwright


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[BrowserContext]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium)
        try:
            yield started.new_context(viewport={"width": 1500, "height": 1100})
        finally:
            started.close()
