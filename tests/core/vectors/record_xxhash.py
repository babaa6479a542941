"""Records what the xxHash library itself says, for the tests to compare with.

    python -m venv xx && xx/bin/pip install xxhash==4.1.0
    xx/bin/python tests/core/vectors/record_xxhash.py

Writes tests/core/vectors/xxhash64.json: the library's version, and the hash of `pattern(length)`
for lengths around every border of the algorithm.
"""

import importlib.metadata
import json
from pathlib import Path

LENGTHS = [*range(101), 127, 128, 129, 255, 256, 1000, 4096, 60_000]


def pattern(length: int) -> bytes:
    """Bytes without a short period, so that a word read twice or from the wrong place shows."""
    return bytes((i * i + 131 * i + length) % 251 for i in range(length))


def record() -> None:
    """Write the file."""
    import xxhash

    hashes = {str(n): xxhash.xxh64_hexdigest(pattern(n), seed=0) for n in LENGTHS}
    recorded = {"xxhash": importlib.metadata.version("xxhash"), "hashes": hashes}
    target = Path(__file__).with_name("xxhash64.json")
    target.write_text(json.dumps(recorded, indent=1) + "\n")


if __name__ == "__main__":
    record()
