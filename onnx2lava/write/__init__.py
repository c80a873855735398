"""Writers: a :class:`~onnx2lava.network.Network` as a file or as another library's objects, one target a file."""
