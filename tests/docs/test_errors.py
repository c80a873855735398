"""The error catalogue has every error class, and nothing else."""

import importlib
import pkgutil
import re
from pathlib import Path

import custom_ops
import models
import onnx2lava
import sj2onnx
from custom_ops.errors import BridgeError

PAGE = Path(__file__).parents[2] / "docs" / "errors.md"


def classes(base: type[BridgeError]) -> set[type[BridgeError]]:
    return {base}.union(*(classes(each) for each in base.__subclasses__()))


def test_the_catalogue_is_complete() -> None:
    for package in (custom_ops, onnx2lava, sj2onnx, models):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            # The native library is no module, and what talks to Lava itself needs Lava.
            if not re.search(r"\.lib|__main__|\.lava_runtime\.(f|threads)|\.lava\.processes|\.slayer\.modules", module.name):
                importlib.import_module(module.name)
    ours = {each for each in classes(BridgeError) if each.__module__.partition(".")[0] != "tests"}
    rows = re.findall(r"^\| `(\w+)` \| (.+) \| (.+) \| (.+) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(row[0] for row in rows) == sorted(each.__name__ for each in ours)
    assert all(each.__doc__ for each in ours)
