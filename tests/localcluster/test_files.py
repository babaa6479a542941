from __future__ import annotations

import json
from pathlib import Path

from localcluster import files


def test_what_others_must_not_read_is_private(tmp_path: Path) -> None:
    files.write_private(tmp_path / "token", "secret")
    assert (tmp_path / "token").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["token"]


def test_a_file_is_replaced_never_rewritten(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    files.write_json(path, {"ready": False})
    with path.open() as reader:
        files.write_json(path, {"ready": True})
        assert json.load(reader) == {"ready": False}
    assert json.loads(path.read_text()) == {"ready": True}
