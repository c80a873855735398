"""Every command and every piece of Python in the README and under docs/ is run, in order, as a reader would.

Each page gets an empty folder with the repository's models/ in it. A block marked ``python`` runs as one script, the lines of a
block marked ``bash`` run one by one; ``python lava`` and ``bash lava`` run in the environment that has Lava-DL. A block marked
``python NAME.py`` is a file that later commands run. Of `make` only a dry run is made: the targets have tests of their own, or
are these tests; and `pip install` is left out, because it is done. Blocks of any other kind are not run. A page in Chinese
(NAME.zh.md) has the same blocks as the one in English, which run once. ``test_newcomer.py`` runs the README.
"""

import re
import shutil
from pathlib import Path

import pytest

from tests.docs.pages import BLOCK, ROOT, blocks, run_blocks

ENGLISH = sorted(page for page in ROOT.glob("docs/**/*.md") if not page.name.endswith(".zh.md"))
PAGES = [ROOT / "README.md", *ROOT.glob("CONTRIBUTING*.md"), *ENGLISH]
CHINESE = sorted(ROOT.glob("docs/**/*.zh.md"))
OTHERS = ("README.zh.md", "CHANGELOG.md", "SECURITY.md")


@pytest.mark.parametrize("page", [page for page in PAGES[1:] if blocks(page)], ids=lambda page: str(page.relative_to(ROOT)))
def test_the_page_does_what_it_says(page: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    shutil.copytree(ROOT / "models", tmp_path / "models", ignore=shutil.ignore_patterns("__pycache__"))
    run_blocks(blocks(page), tmp_path, request)


def test_readme_has_something_to_run() -> None:
    assert len(blocks(ROOT / "README.md")) >= 5


def test_from_an_empty_folder_to_a_verified_file_in_five_commands() -> None:
    page = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Your own network")[2].partition("Two more commands")[0]
    commands = [line for kind, _, text in BLOCK.findall(page) if kind == "bash" for line in text.splitlines()]
    assert len(commands) == 5
    assert commands[-1].startswith("onnx2lava verify")


def test_the_chinese_readme_keeps_in_step() -> None:
    english, chinese = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README.zh.md"))

    def skeleton(text: str) -> dict[str, list[str]]:
        code = re.findall(r"^```.*?^```$", text, re.MULTILINE | re.DOTALL)
        prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
        return {
            "code": [re.sub(r"  #.*", "", block) for block in code],
            "headings": re.findall(r"^#+ ", prose, re.MULTILINE),
            "tables": re.findall(r"^\|", prose, re.MULTILINE),
            "links": sorted({link.replace(".zh.md", ".md") for link in re.findall(r"\]\(([^)#]+)", prose)} - {"README.md"}),
            "numbers": sorted(re.findall(r"\d[\d,.]*\d", prose)),
        }

    assert skeleton(chinese) == skeleton(english)


@pytest.mark.parametrize("page", CHINESE, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_in_chinese_has_the_code_of_the_page_in_english(page: Path) -> None:
    english = page.with_name(page.name.replace(".zh.md", ".md"))

    def skeleton(text: str) -> tuple[list[str], list[str], int]:
        code = re.findall(r"^```.*?^```$", text, re.MULTILINE | re.DOTALL)
        prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
        return code, re.findall(r"^#+ ", prose, re.MULTILINE), len(re.findall(r"^\|", prose, re.MULTILINE))

    assert skeleton(page.read_text(encoding="utf-8")) == skeleton(english.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "page", [*PAGES, *CHINESE, *(ROOT / name for name in OTHERS)], ids=lambda page: str(page.relative_to(ROOT))
)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target
