"""A picture of a page, or of one chapter of it, for the documents: headless Chromium takes it.

python benchmarks/gallery.py PAGE.html OUT.png [--chapter TITLE] [--width 900] [--tall 1400] [--dark] [--press ARROW_TIMES]
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from playwright.sync_api import Page, sync_playwright


def main() -> None:
    """Open the page, draw what is to be seen, and keep it as a PNG of few colours."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("page")
    parser.add_argument("out", type=Path)
    parser.add_argument("--chapter", default="")
    parser.add_argument("--width", type=int, default=900)
    parser.add_argument("--tall", type=int, default=1400, help="pixels at most")
    parser.add_argument("--dark", action="store_true")
    parser.add_argument("--press", type=int, default=0, help="steps of a player's slider")
    requested = parser.parse_args()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(
            viewport={"width": requested.width, "height": requested.tall}, color_scheme="dark" if requested.dark else "light"
        )
        page.goto(requested.page if "://" in requested.page else Path(requested.page).resolve().as_uri())
        take(page, requested)
        browser.close()


def take(page: Page, requested: argparse.Namespace) -> None:
    """The picture itself, once its charts are drawn."""
    place = (
        page.locator("section", has=page.get_by_role("heading", name=requested.chapter, exact=True))
        if requested.chapter
        else None
    )
    if place is not None:
        place.scroll_into_view_if_needed()
    page.wait_for_timeout(1500)
    for _ in range(requested.press):
        (place or page).locator(".plot").first.press("ArrowRight")
    page.wait_for_timeout(500)
    if place is None:
        page.screenshot(path=requested.out, animations="disabled")
        return
    place.evaluate("box => box.scrollIntoView({behavior: 'instant'})")
    box = place.bounding_box()
    assert box, f"{requested.page}: has no chapter {requested.chapter!r}"
    clip = {**box, "height": min(box["height"], requested.tall - box["y"])}  # within the window, which must not change its size
    page.screenshot(path=requested.out, clip=clip)


if __name__ == "__main__":
    main()
