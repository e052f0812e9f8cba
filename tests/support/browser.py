"""A real browser: Debian's Chromium, headless, driven by Playwright; it reaches nothing but this machine."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, BrowserContext, Page, ViewportSize, expect, sync_playwright

ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
DESKTOP: ViewportSize = {"width": 1280, "height": 900}
TELEPHONE: ViewportSize = {"width": 390, "height": 844}
WAIT_MS = 30_000


class Chromium:
    """One browser process; each context is a person of their own."""

    def __init__(self, running: Browser, launch: Callable[[], Browser]) -> None:
        self._running = running
        self._launch = launch
        self._contexts: list[BrowserContext] = []

    def context(self, **options: Any) -> BrowserContext:
        """Somebody who has never been here. options: of Playwright's new_context, such as viewport and locale."""
        made = self._running.new_context(**{"viewport": DESKTOP, "locale": "en-US", **options})
        made.set_default_timeout(WAIT_MS)
        self._contexts.append(made)
        return made

    @contextmanager
    def as_delivered(self) -> Iterator[Browser]:
        """Another process, which keeps pages silent until somebody touches them, as browsers do."""
        running = self._launch()
        try:
            yield running
        finally:
            running.close()

    def forget(self) -> None:
        """End every context."""
        while self._contexts:
            self._contexts.pop().close()


@contextmanager
def chromium() -> Iterator[Chromium]:
    """A browser process, in which pages may sound untouched; it ends with the block."""
    expect.set_options(timeout=WAIT_MS)
    with sync_playwright() as playwright:
        launch = partial(playwright.chromium.launch, executable_path=shutil.which("chromium"))
        running = launch(args=[*ARGUMENTS, "--autoplay-policy=no-user-gesture-required"])
        try:
            yield Chromium(running, lambda: launch(args=list(ARGUMENTS)))
        finally:
            running.close()


def log_in(page: Page, url: str, username: str, password: str) -> None:
    """Log in to the console at `url`."""
    page.goto(f"{url}/login")
    page.fill("input[name=username]", username)
    page.fill("input[name=password]", password)
    page.click("main button[type=submit], main form button")
    page.wait_for_url(lambda address: "/login" not in address)


def keep(page: Page, folder: Path, name: str) -> Path:
    """A screenshot of the whole page, kept as an artefact of the build."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}.png"
    page.screenshot(path=str(file), full_page=True)
    return file
