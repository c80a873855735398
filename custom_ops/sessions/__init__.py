"""Sessions of onnxruntime: on a CPU or a GPU, with the native library or without, and chunk by chunk."""
