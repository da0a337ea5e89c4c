"""What ``dsn put`` refuses before anything is opened, and what it prints."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dsn.apps.results import PutResult
from dsn.cli.main import main
from dsn.cli.put import choose_scheme, name_sources, to_fields
from dsn.core.layout import Scheme
from dsn.errors import NotFound, UsageError


def result(name: str = "a.txt") -> PutResult:
    return PutResult(
        name=name, read="dsn:read:x", repair="dsn:repair:x", verify="dsn:verify:x", file_id="f",
        size=10, scheme="4/6", segments=1, placed=6, total=6, uploaded_bytes=1536, seconds=0.5,
    )  # fmt: skip


def test_a_file_is_named_by_its_last_component(tmp_path):
    path = tmp_path / "report.pdf"
    path.touch()
    assert name_sources([str(path)], False, None) == [(path, "report.pdf")]


def test_a_folder_is_named_by_where_it_leads(tmp_path, monkeypatch):
    (tmp_path / "photos").mkdir()
    monkeypatch.chdir(tmp_path / "photos")
    assert [name for _, name in name_sources(["."], True, None)] == ["photos"]
    assert [name for _, name in name_sources(["../photos/"], True, None)] == ["photos"]


def test_standard_input_is_named_stdin_or_as_told():
    assert name_sources(["-"], False, None) == [(None, "stdin")]
    assert name_sources(["-"], False, "dump.sql") == [(None, "dump.sql")]


def test_a_missing_path_is_not_found(tmp_path):
    with pytest.raises(NotFound) as caught:
        name_sources([str(tmp_path / "none")], False, None)
    assert caught.value.exit_code == 3


def test_a_folder_needs_r(tmp_path):
    with pytest.raises(UsageError) as caught:
        name_sources([str(tmp_path)], False, None)
    assert caught.value.detail_code == "is_directory"
    assert "-r" in caught.value.hint


def test_one_name_cannot_serve_two_paths(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x").touch()
    paths = [str(tmp_path / "a/x"), str(tmp_path / "b/x")]
    with pytest.raises(UsageError) as caught:
        name_sources(paths, False, None)
    assert caught.value.detail_code == "name_taken"
    with pytest.raises(UsageError):
        name_sources(paths, False, "both")


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError) as caught:
        name_sources([str(tmp_path / "pipe")], False, None)
    assert caught.value.detail_code == "not_a_file"


def test_an_empty_name_is_no_name(tmp_path):
    with pytest.raises(UsageError):
        name_sources([str(tmp_path)], True, "")


def test_the_root_folder_has_no_name():
    with pytest.raises(UsageError) as caught:
        name_sources(["/"], True, None)
    assert "--as" in caught.value.hint


def test_schemes():
    assert choose_scheme("auto") is None
    assert choose_scheme("4/6") == Scheme(4, 6)
    for text in ("0/5", "9/4", "300/400", "4", "a/b", ""):
        with pytest.raises(UsageError) as caught:
            choose_scheme(text)
        assert caught.value.detail_code == "bad_scheme"


def test_one_put_is_one_object_with_the_stable_fields():
    fields = to_fields([result()])
    assert set(fields) >= {
        "name", "read", "repair", "verify", "file_id", "size", "scheme", "segments", "placed",
        "total", "uploaded_bytes", "cost", "expires", "seconds",
    }  # fmt: skip
    assert fields["cost"] is None
    assert fields["expires"] is None


def test_several_puts_are_one_object_with_files():
    fields = to_fields([result("a"), result("b")])
    assert [file["name"] for file in fields["files"]] == ["a", "b"]
    assert (fields["size"], fields["uploaded_bytes"], fields["cost"]) == (20, 3072, None)


@pytest.mark.parametrize("verifier", ["verifier", "nobody", "aaaa@127.0.0.1:7080"])
def test_a_verifier_that_is_not_named_is_found_before_anything_is_sent(
    verifier: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "a.txt"
    source.write_text("hello")
    home = str(tmp_path / "home")
    assert main(["--home", home, "put", str(source), "--confirm-by", verifier]) == 2
    assert "KEY@HOST:PORT" in capsys.readouterr().err
