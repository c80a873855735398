"""``python -m sj2onnx`` is the command ``sj2onnx``."""

from .cli import main

if __name__ == "__main__":
    main()
