"""Take pictures of a page in a headless browser: ``take.py PAGE [NAME]``; they go beside this file, as NAME_SCHEME_WIDTH.png.

Also checks in every one of them that the page needs no sideways scrolling and reports no error, and of a report page that its
rasters answer to the keyboard.
"""

import shutil
import sys
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

WIDTHS = {"wide": 1280, "narrow": 390}
SCHEMES = ("light", "dark")
HEIGHT = 1100


def main() -> int:
    """The command line; exit code 0, 1 where a check fails, 2 without a browser or a page."""
    chromium = shutil.which("chromium")
    if chromium is None or len(sys.argv) not in (2, 3) or not Path(sys.argv[1]).exists():
        sys.stderr.write("Error: this needs chromium (Debian's package of that name) and the path of a page.\n")
        return 2
    name = sys.argv[2] if len(sys.argv) == 3 else "report"
    code = 0
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        for scheme in SCHEMES:
            for size, width in WIDTHS.items():
                page = browser.new_page(viewport={"width": width, "height": HEIGHT}, color_scheme=scheme)
                errors: list[str] = []
                page.on("pageerror", lambda error, errors=errors: errors.append(str(error)))
                page.goto(Path(sys.argv[1]).resolve().as_uri())
                target = Path(__file__).with_name(f"{name}_{scheme}_{size}.png")
                page.screenshot(path=target)
                beyond = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
                errors += deaf_rasters(page)
                code |= beyond > 0 or bool(errors)
                sys.stdout.write(f"{target}: {width} x {HEIGHT} pixels, {beyond} beyond the screen's width\n")
                sys.stdout.writelines(f"{error}\n" for error in errors)
        browser.close()
    return code


def deaf_rasters(page: Page) -> list[str]:
    """Which layers of a report say nothing when an arrow key moves the mark in their first raster."""
    deaf = []
    for section in page.query_selector_all("section[id^=layer-]"):
        canvas = section.query_selector("canvas[tabindex]")
        if canvas is not None:
            canvas.focus()
            page.keyboard.press("ArrowRight")
            said = section.query_selector(".said")
            if said is None or "neuron" not in said.inner_text():
                deaf.append(f"{section.get_attribute('id')} does not answer to the keyboard")
    return deaf


if __name__ == "__main__":
    sys.exit(main())
