"""``python -m onnx2lava`` is the command ``onnx2lava``."""

from .cli import main

if __name__ == "__main__":
    main()
