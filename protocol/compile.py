"""Compiles `proto/` into `descriptors.binpb`: `python -m protocol.compile`.

Needs grpcio-tools, a development dependency; everything else reads the compiled file. The
result depends on the texts of the `.proto` files only, so it can be compared byte for byte.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

PROTO_FOLDER = Path(__file__).parent / "proto"
DESCRIPTORS = Path(__file__).parent / "descriptors.binpb"


def compile_descriptors() -> bytes:
    """Compiles every `.proto` file together with all it imports.

    Returns:
        A serialised FileDescriptorSet, imported files before those that import them.

    Raises:
        RuntimeError: a file does not compile; protoc has written the reason to stderr.
    """
    sources = sorted(path.relative_to(PROTO_FOLDER) for path in PROTO_FOLDER.rglob("*.proto"))
    with tempfile.TemporaryDirectory() as folder:
        compiled = Path(folder) / DESCRIPTORS.name
        # A process of its own: protoc and TensorFlow cannot share one.
        command = [
            *(sys.executable, "-m", "grpc_tools.protoc"),
            f"--proto_path={PROTO_FOLDER}",
            "--include_imports",
            f"--descriptor_set_out={compiled}",
            *(source.as_posix() for source in sources),
        ]
        if subprocess.run(command, check=False).returncode != 0:
            raise RuntimeError(f"protoc could not compile {PROTO_FOLDER}")
        return compiled.read_bytes()


def main() -> int:
    """Writes `descriptors.binpb` and says whether it changed."""
    compiled = compile_descriptors()
    changed = not DESCRIPTORS.exists() or DESCRIPTORS.read_bytes() != compiled
    DESCRIPTORS.write_bytes(compiled)
    print(f"{DESCRIPTORS.name}: {len(compiled)} bytes, {'changed' if changed else 'unchanged'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
