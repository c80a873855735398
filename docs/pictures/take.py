"""Take pictures of a page in a headless browser: ``take.py PAGE [NAME]``; they go beside this file, as NAME_SCHEME_WIDTH.png.

Also checks in every one of them that the page needs no sideways scrolling.
"""

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

WIDTHS = {"wide": 1280, "narrow": 390}
SCHEMES = ("light", "dark")
HEIGHT = 1100


def main() -> int:
    """The command line; exit code 0, 1 where the page is wider than the screen, 2 without a browser or a page."""
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
                page.goto(Path(sys.argv[1]).resolve().as_uri())
                target = Path(__file__).with_name(f"{name}_{scheme}_{size}.png")
                page.screenshot(path=target)
                beyond = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
                code |= beyond > 0
                sys.stdout.write(f"{target}: {width} x {HEIGHT} pixels, {beyond} beyond the screen's width\n")
        browser.close()
    return code


if __name__ == "__main__":
    sys.exit(main())
