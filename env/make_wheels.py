"""Build what is published into ``dist/``: a wheel for each processor, the sources and, where nvcc is, the GPU library's wheel.

``make wheels`` runs this in an environment of its own. The compiler is Zig's clang, which links against the symbols of an old
glibc whatever this machine has, for AArch64 as well; auditwheel then proves the tag. What the wheels do once they are installed
is checked by ``tests/wheels``.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
GLIBC = "2.17"
"""The oldest glibc to run on: manylinux2014, as numpy's and h5py's wheels of the oldest supported versions."""
PROCESSORS = ("x86_64", "aarch64")
CUDA_PROJECT = "custom_ops/native/cuda/wheel"


def main() -> int:
    """Build everything that was asked for; exit code 0, or that of the step that failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=PROCESSORS, help="this processor's wheel and nothing else")
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "dist", help="the folder to fill")
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    for old in [*given.output.glob("sj2lava*.whl"), *given.output.glob("sj2lava*.tar.gz")]:
        old.unlink()
    with tempfile.TemporaryDirectory() as folder:
        sources = Path(folder) / "sources"
        stage(sources)
        try:
            for processor in [given.only] if given.only else PROCESSORS:
                build_wheel(sources, processor, given.output)
            if not given.only:
                python("build", "--sdist", "--no-isolation", "--outdir", given.output, sources)
                build_cuda_wheel(sources, given.output)
        except subprocess.CalledProcessError as error:
            return error.returncode or 1
    for made in sorted(given.output.iterdir()):
        sys.stdout.write(f"{made} ({made.stat().st_size:,} bytes)\n")
    return 0


def stage(target: Path) -> None:
    """Copy the sources, and nothing that was built, and make the README's links absolute: a package index shows it, too."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, check=True, capture_output=True
    ).stdout.decode()
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    readme = target / "README.md"
    readme.write_text(absolute_links(readme.read_text(encoding="utf-8"), repository(), version()), encoding="utf-8")


def absolute_links(text: str, home: str, version: str) -> str:
    """Links and pictures of a page at the top of the repository, as they are seen from anywhere, at this version's tag."""

    def absolute(found: re.Match[str]) -> str:
        picture, words, target = found.groups()
        if re.match(r"[a-z]+:|#", target):
            return found[0]
        return f"{picture}[{words}]({home}/{'raw' if picture else 'blob'}/v{version}/{target})"

    return re.sub(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)", absolute, text)


def repository() -> str:
    """The project's home, which ``pyproject.toml`` names."""
    return found_in("pyproject.toml", r'^Repository = "(.+)"$')


def version() -> str:
    """The one version number."""
    return found_in("custom_ops/version.py", r'^__version__ = "(.+)"$')


def found_in(name: str, pattern: str) -> str:
    """The one group of ``pattern`` in a file of the project."""
    found = re.search(pattern, (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE)
    if found is None:
        raise SystemExit(f"Error: {name} has no line like {pattern}.")
    return found[1]


def build_wheel(sources: Path, processor: str, output: Path) -> None:
    """The plain wheel for one processor."""
    environment = {
        "CXX": str(ROOT / "env" / "zig-c++"),
        "ZIG_PYTHON": sys.executable,
        "ZIG_TARGET": f"{processor}-linux-gnu.{GLIBC}",
        "CMAKE_ARGS": f"-DSNN_CUDA=OFF -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR={processor}",
        "_PYTHON_HOST_PLATFORM": f"linux-{processor}",  # the tag that the backend gives the wheel
    }
    made = repaired(sources, output, environment)
    tags = [tuple(map(int, found)) for found in re.findall(r"manylinux_(\d+)_(\d+)_", made.name)]
    if not tags or min(tags) > tuple(map(int, GLIBC.split("."))):
        raise SystemExit(f"Error: {made.name} needs a newer glibc than {GLIBC}.")


def build_cuda_wheel(sources: Path, output: Path) -> None:
    """The wheel with the GPU's library alone, by nvcc and the system's compiler, whose glibc gives the tag."""
    if shutil.which("nvcc") is None and not Path("/usr/local/cuda/bin/nvcc").exists():
        sys.stdout.write("No CUDA compiler (nvcc): the wheel sj2lava-cuda was not built.\n")
        return
    repaired(sources / CUDA_PROJECT, output, {})


def repaired(project: Path, output: Path, environment: dict[str, str]) -> Path:
    """Build a wheel and let auditwheel give it the oldest tag that holds. (It takes no other processor's tag by name.)"""
    with tempfile.TemporaryDirectory() as folder:
        python("build", "--wheel", "--no-isolation", "--outdir", Path(folder) / "built", project, environment=environment)
        (wheel,) = Path(folder, "built").glob("*.whl")
        python("auditwheel", "repair", "--plat", "auto", "--only-plat", "--wheel-dir", Path(folder) / "proven", wheel)
        (proven,) = Path(folder, "proven").glob("*.whl")
        return Path(shutil.copy2(proven, output))


def python(module: str, *arguments: object, environment: dict[str, str] | None = None) -> None:
    """Run a tool of this environment."""
    tools = os.pathsep.join([str(Path(sys.executable).parent), str(Path(sys.executable).resolve().parent), os.environ["PATH"]])
    subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        check=True,
        env={**os.environ, "PATH": tools, **(environment or {})},
    )


if __name__ == "__main__":
    sys.exit(main())
