"""The root command: every outcome is one line, one hint, one exit code."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from dsn.cli.main import SECTIONS, cli, main

COMMANDS = [name for commands in SECTIONS.values() for name in commands]


def run(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str, list[str]]:
    code = main(args)
    out, err = capsys.readouterr()
    return code, out, err.splitlines()


def test_help_lists_every_command_without_importing_any(capsys):
    for name in [name for name in sys.modules if name.startswith("dsn.cli.put")]:
        del sys.modules[name]
    code, out, err = run(capsys, "--help")
    assert (code, err) == (0, [])
    for name in COMMANDS:
        assert f"\n  {name} " in out
    assert "dsn.cli.put" not in sys.modules


def test_help_imports_nothing_heavy():
    heavy = (
        "grpc",
        "google.protobuf",
        "pydantic",
        "rich",
        "cryptography",
        "nacl",
        "asyncio.runners",
    )
    code = (
        "import sys; from dsn.cli.main import main; main(['--help']);"
        f"print([m for m in {heavy!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_loads_and_explains_itself(capsys, name):
    code, out, err = run(capsys, name, "--help")
    assert (code, err) == (0, [])
    assert out.startswith(f"Usage: dsn {name}")
    assert "--json" in out


def test_no_arguments_is_a_question_not_a_failure(capsys):
    code, out, err = run(capsys)
    assert code == 2
    assert err[0].startswith("Usage: dsn")
    assert "dsn:" not in err[0]
    assert out == ""


@pytest.mark.parametrize(
    ("args", "line", "hint"),
    [
        (("pt",), "no such command 'pt'", "did you mean 'dsn put'?"),
        (("xyzzy",), "no such command 'xyzzy'", "'dsn --help' lists all commands"),
        (("put", "--schem", "4/6", "x"), "no such option '--schem'", "did you mean '--scheme'?"),
        (("put",), "missing argument 'PATH...'", "'dsn put --help' shows how it is used"),
        (("devnet", "statsu"), "no such command 'statsu'", "did you mean 'status'?"),
        (("--hom", "x", "ls"), "no such option '--hom'", "did you mean '--home'?"),
    ],
)
def test_mistyped_calls_get_one_line_and_the_nearest_name(capsys, args, line, hint):
    code, out, err = run(capsys, *args)
    assert code == 2
    assert out == ""
    assert err == [f"dsn: {line}", f"hint: {hint}"]


def test_with_json_a_failure_is_an_object_on_stdout_too(capsys):
    code, out, err = run(capsys, "--json", "get", "x", "--range", "5-3")
    assert json.loads(out) == {
        "error": {
            "code": "bad_range",
            "message": "range 5-3 holds no byte",
            "hint": "A-B is byte A up to, but not including, byte B",
            "peer": "",
            "exit": 2,
        }
    }
    assert code == 2
    assert err[0] == "dsn: range 5-3 holds no byte"


def test_json_may_follow_the_command(capsys):
    code, out, _ = run(capsys, "get", "x", "--range", "5-3", "--json")
    assert (code, json.loads(out)["error"]["code"]) == (2, "bad_range")


def test_json_failures_even_where_parsing_ends_before_the_flag(capsys):
    _, out, _ = run(capsys, "pt", "--json")
    assert json.loads(out)["error"]["code"] == "usage"


def test_version(capsys):
    code, out, _ = run(capsys, "--version")
    assert code == 0
    assert out.startswith("dsn ")


def test_home_is_taken_before_and_after_the_command(capsys, tmp_path):
    for args in (("--home", str(tmp_path), "ls"), ("ls", "--home", str(tmp_path))):
        code, _, err = run(capsys, *args)
        assert code == 2
        assert str(tmp_path) in err[0], err


def test_environment_names_the_home(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("DSN_HOME", str(tmp_path / "elsewhere"))
    code, _, err = run(capsys, "ls")
    assert code == 2
    assert "elsewhere" in err[0]


class _Broken(Exception):
    pass


@pytest.fixture
def broken(monkeypatch):
    def invoke(*_args, **_kwargs):
        raise _Broken("two\nlines")

    monkeypatch.setattr(cli, "invoke", invoke)


def test_a_bug_is_one_line_without_a_traceback(capsys, tmp_path, broken):
    code, out, err = run(capsys, "--home", str(tmp_path / "none"), "ls")
    assert (code, out) == (70, "")
    assert err == [
        "dsn: internal error: _Broken: two lines; please report it",
        "hint: the same command with --verbose shows the details",
    ]
    assert not (tmp_path / "none").exists()


def test_a_bugs_details_are_kept_in_the_home(capsys, tmp_path, broken, monkeypatch):
    monkeypatch.setenv("DSN_HOME", str(tmp_path))
    code, _, err = run(capsys, "ls")
    log = tmp_path / "log" / "errors.log"
    assert code == 70
    assert err[1] == f"hint: the details are in {log}"
    assert "Traceback" in log.read_text()


def test_debug_shows_a_bugs_details(capsys, tmp_path, broken, monkeypatch):
    monkeypatch.setenv("DSN_DEBUG", "1")
    _, _, err = run(capsys, "--home", str(tmp_path), "ls")
    assert any("Traceback" in line for line in err)


def test_interrupt_says_how_to_go_on(capsys, monkeypatch):
    def invoke(*_args, **_kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "invoke", invoke)
    code, _, err = run(capsys, "ls")
    assert code == 130
    assert [line for line in err if line] == [
        "dsn: interrupted",
        "hint: resume with the same command",
    ]


def test_a_closed_pipe_is_quiet(tmp_path):
    """``dsn --help | head -0``: no traceback, no message."""
    script = f"{sys.executable} -m dsn --help | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.returncode in (0, 141)  # 0 when all was written before the reader left
