"""What `barriers` finds in a page, so that "none" means something elsewhere."""

import barriers
import pytest
from playwright.sync_api import Browser, Page

PALE, DARK = "color: #bbb", "color: #111"


@pytest.fixture(scope="module")
def page(browser: Browser) -> Page:
    return browser.new_page()


def found(page: Page, body: str, part: str = "html") -> dict[str, int]:
    page.set_content(f"<html lang=en><title>A page</title><body><main>{body}</main></body></html>")
    return {rule: len(nodes) for rule, nodes in barriers.serious(page, part).items()}


def test_nothing_in_a_good_page(page: Page) -> None:
    assert found(page, f"<p style='{DARK}'>Words</p><button>Press</button>") == {}


def test_other_rules_look_at_everything(page: Page) -> None:
    assert found(page, "<button></button>" * 3) == {"button-name": 3}
    image = "data:image/gif;base64,R0lGODlhAQABAAAAACw="
    assert found(page, f"<img src='{image}'>" * 2) == {"image-alt": 2}


def test_words_that_look_the_same_count_once(page: Page) -> None:
    assert found(page, f"<p style='{PALE}'>Words</p>" * 9) == {"color-contrast": 1}


@pytest.mark.parametrize(
    "other",
    [
        "<p style='color: #ccc'>Words</p>",
        f"<p style='{PALE}; font-weight: 700'>Words</p>",
        f"<p style='{PALE}; font-size: 20px'>Words</p>",
        f"<div style='background: #ddd'><p style='{PALE}'>Words</p></div>",
        f"<i style='{PALE}'>Words</i>",
    ],
)
def test_words_that_look_different_count_by_themselves(page: Page, other: str) -> None:
    assert found(page, f"<p style='{PALE}'>Words</p>{other}") == {"color-contrast": 2}


def test_a_good_word_does_not_stand_for_a_pale_one(page: Page) -> None:
    both = f"<p style='{DARK}'>Words</p><p style='{PALE}'>Words</p>"
    assert found(page, both) == {"color-contrast": 1}
    # Nor does one that is hidden, or that lies on another ground.
    hidden = f"<p style='{PALE}' hidden>Words</p><p style='{PALE}'>Words</p>"
    assert found(page, hidden) == {"color-contrast": 1}
    grounds = "".join(
        f"<div style='background: {ground}'><p style='color: #767676'>Words</p></div>"
        for ground in ("#fff", "#999")
    )
    assert found(page, grounds) == {"color-contrast": 1}


def test_a_part_is_looked_at_alone(page: Page) -> None:
    body = "<section id=part><button></button></section><button></button>"
    assert found(page, body, "#part") == {"button-name": 1}
