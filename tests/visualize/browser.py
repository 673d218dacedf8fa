"""A real Chromium without a window, for tests of the page."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@dataclass
class Opened:
    """A page, and what went wrong in it."""

    page: Any
    problems: list[str] = field(default_factory=list)

    def text(self, selector: str) -> str:
        found: str = self.page.inner_text(selector)
        return found

    def count(self, selector: str) -> int:
        found: int = self.page.locator(selector).count()
        return found

    def boxes(self) -> set[str]:
        """What the boxes that are seen say in their first line."""
        return set(self.page.locator(".box .title").all_text_contents())


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser; skips the test where there is none, or it does not start on this machine."""
    driver = pytest.importorskip("playwright.sync_api", reason="playwright is in the extra `test`")
    path = next(filter(None, map(shutil.which, _NAMES)), None)
    if path is None:
        pytest.skip("Chromium is not installed: apt-get install chromium")
    with driver.sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])  # which root needs
        except driver.Error as error:
            pytest.skip(f"{path} does not start: {error}")
        yield browser
        browser.close()


@contextmanager
def opened(browser: Any, path: Path, **options: Any) -> Iterator[Opened]:
    """The page of a file. At the end, nothing may have failed, and nothing but the file may have been asked for."""
    page = browser.new_page(viewport={"width": 1280, "height": 800}, **options)
    found = Opened(page)
    page.on("console", lambda message: found.problems.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: found.problems.append(str(error)))
    page.on("request", lambda request: None if request.url == path.as_uri() else found.problems.append(request.url))
    page.goto(path.as_uri())
    page.wait_for_selector(".box")
    yield found
    page.close()
    assert found.problems == []
