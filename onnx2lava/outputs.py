"""The files of a conversion: they never eat an input, and they appear together or not at all."""

import hashlib
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from custom_ops.errors import ModelFileError
from custom_ops.files.atomic_write import replacing_all, require_writable
from custom_ops.files.model_file import write_model

from .errors import BridgeError, ConversionError
from .host import host_parts
from .network import CubaNeuron, Network

__all__ = ["SOURCE", "of_source", "require_apart", "written"]


SOURCE = "sj2lava.source_sha256"
"""Key of the metadata of what ``convert`` writes: the SHA-256 of the file that it read."""


def of_source(network: Network[CubaNeuron], path: Path) -> Network[CubaNeuron]:
    """``network``, which says of what file it is made.

    Raises:
        ModelFileError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256") if sys.version_info >= (3, 11) else hashlib.sha256(file.read())
    except OSError as error:
        raise ModelFileError(f"Cannot read {path}: {error.strerror or error}; check the path.") from error
    return replace(network, metadata={**network.metadata, SOURCE: digest.hexdigest()})


def require_apart(inputs: Sequence[Path | None], outputs: Sequence[Path | None]) -> None:
    """Refuse outputs that are an input or each other, or that cannot be written, before anything runs.

    Raises:
        ConversionError: two are one file.
        ModelFileError: an output is a device or a folder, or its folder is not there.
    """
    read = [path for path in inputs if path is not None]
    seen: list[Path] = []
    for path in (path for path in outputs if path is not None):
        try:
            target = require_writable(path)
            if not target.parent.is_dir():
                raise FileNotFoundError(2, os.strerror(2))
        except OSError as error:
            raise _cannot_write(path, error) from error
        if any(_same(path, each) for each in read):
            raise ConversionError(f"The output {path} is also an input, which it would replace: give it another name.")
        if any(_same(path, each) for each in seen):
            raise ConversionError(f"The output {path} is given twice: give each file a name of its own.")
        seen.append(path)


def written(
    network: Network[CubaNeuron],
    output: Path,
    loihi_onnx: Path | None,
    *,
    inputs: Sequence[Path | None],
    inline: bool = False,
) -> dict[Path, int | None]:
    """Write a network, as an ONNX file as well if one is asked for, and beside it what stays on the host.

    Parts of an older conversion to the same ``output`` that this one does not have are removed.

    Args:
        network: to be written.
        output: a name that ends with ``.net``, ``.onnx`` or ``.nir``.
        loihi_onnx: another ONNX file, or None.
        inputs: files that must not be replaced.
        inline: whether ONNX files are written without functions, see :func:`custom_ops.inlined`.

    Returns:
        The size of each file by its path; None where one was removed.

    Raises:
        ConversionError: the ending says nothing, or an output is an input.
        LimitError: the format cannot hold the network.
        ModelFileError: a file cannot be written; then all are as they were.
    """
    from custom_ops import inlined

    from .targets.netx import NETX, save_netx
    from .targets.nir import save_nir
    from .targets.onnx import to_onnx

    def net(path: Path) -> None:
        save_netx(network, path)

    def onnx(path: Path) -> None:
        write_model(inlined(to_onnx(network)) if inline else to_onnx(network), path)

    def nir(path: Path) -> None:
        save_nir(network, path)

    writers = {".net": net, ".nir": nir, ".onnx": onnx}
    if output.suffix not in writers:
        raise ConversionError(
            f"The output {output} ends with neither .net (for NetX), .onnx (for onnxruntime) nor .nir (for tools that read NIR): "
            "name it so."
        )
    if inline and loihi_onnx is None and output.suffix != ".onnx":
        raise ConversionError(
            f"The output {output} has no functions to be inlined, only ONNX files have: add --loihi-onnx OUT.onnx."
        )
    if loihi_onnx is not None and loihi_onnx.suffix != ".onnx":
        raise ConversionError(f"The output {loihi_onnx} is an ONNX file, but does not end with .onnx: name it so.")
    files: dict[Path, Callable[[Path], None]] = {output: writers[output.suffix]}
    if loihi_onnx is not None:
        files[loihi_onnx] = onnx
    # Where NetX's last layer is flat, the readout that fits it reads the ONNX file's images as well.
    parts = host_parts(NETX.legalise(network) if output.suffix == ".net" else network, output)
    for path, model in parts.items():
        if model is not None:
            files[path] = lambda temporary, model=model: write_model(model, temporary)  # type: ignore[misc]
    stale = [path for path, model in parts.items() if model is None and output.exists() and path.is_file()]
    require_apart(inputs, [*files, *stale])
    current = output
    try:
        with replacing_all(list(files), stale) as temporaries:
            for (current, write), temporary in zip(files.items(), temporaries, strict=True):
                _write(write, temporary, current)
    except OSError as error:
        raise _cannot_write(current, error) from error
    return {**{path: path.stat().st_size for path in files}, **dict.fromkeys(stale)}


def _write(write: Callable[[Path], None], temporary: Path, path: Path) -> None:
    """Under its temporary name, which an error must not show."""
    try:
        write(temporary)
    except BridgeError as error:
        raise type(error)(str(error).replace(str(temporary), str(path))) from error


def _same(one: Path, other: Path) -> bool:
    """Whether writing to the one changes the other; of a file with two names, the other name keeps the old content."""
    if os.path.realpath(one) == os.path.realpath(other):
        return True
    try:
        return one.samefile(other) and one.stat().st_nlink == 1
    except OSError:
        return False


def _cannot_write(path: Path, error: OSError) -> ModelFileError:
    return ModelFileError(f"Cannot write {path}: {error.strerror or error}; check the folder and the space on it.")
