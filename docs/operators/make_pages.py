"""Write the reference page of every operator beside this file, from its definition: ``python docs/operators/make_pages.py``."""

from pathlib import Path

from custom_ops.files.atomic_write import replacing
from custom_ops.operators import OPERATORS

if __name__ == "__main__":
    for operator in OPERATORS.values():
        with replacing(Path(__file__).with_name(f"{operator.name}.md")) as path:
            path.write_text(operator.reference_page(), encoding="utf-8")
