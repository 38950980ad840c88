"""The command line: help is fast and complete, and an error is one message and an exit code."""

import subprocess
import sys

import pytest
from confluent_kafka import KafkaError, KafkaException

from streams.cli import app, options
from streams.errors import BadRecord, Misconfigured, Retry, StreamsError
from tests.conftest import run_cli

GROUPS = {"broker", "topics", "schemas", "dlq", "devices", "spool", "epcis", "promises"}


def subcommands(name: str) -> list[list[str]]:
    if name not in GROUPS:
        return [[name]]
    return [[name, command] for command in app._load(name).commands]


COMMANDS = [words for name in app.COMMANDS for words in subcommands(name)]


def test_help_lists_every_command():
    shown = run_cli("--help")
    assert shown.returncode == 0
    for name, summary in app.COMMANDS.items():
        assert name in shown.stdout
        assert summary.split()[0] in shown.stdout


def test_help_loads_no_client_no_compiler_and_no_terminal_library():
    program = (
        "import sys; sys.argv[1:] = ['--help']\n"
        "from streams.cli.app import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print([name for name in sys.modules if name in "
        "('confluent_kafka', 'numba', 'numpy', 'fastavro', 'rich', 'pydantic', 'structlog')])"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_the_help_of_every_command_has_examples(words):
    command = app._load(words[0])
    if len(words) > 1:
        command = command.commands[words[1]]
    assert command.help is not None
    assert "Examples:" in command.help
    assert f"\n  parcels {' '.join(words)}" in command.help.replace("$(", "\n  ")


def test_examples_keep_their_lines():
    assert "\n    parcels broker down --data ~/parcels\n" in run_cli("broker", "--help").stdout


def test_an_unknown_command_is_rejected_with_a_suggestion():
    rejected = run_cli("verfy")
    assert rejected.returncode == 2
    assert "Did you mean 'verify'?" in rejected.stderr


def test_a_prefix_that_is_not_allowed_in_topic_names_is_rejected():
    with pytest.raises(Misconfigured, match=r"prefix 'a b'|PARCELS_PREFIX 'a b'"):
        options.load_settings(None, "a b")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Misconfigured("no topics"), 2),
        (StreamsError("no answer"), 3),
        (Retry("try again"), 3),
        (BadRecord("TRUNCATED", "ends early"), 3),
        (KafkaException(KafkaError(KafkaError._TRANSPORT)), 3),
        (KeyboardInterrupt(), 130),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else str(value),
)
def test_an_error_is_one_message_and_a_code(error, code, capsys):
    with pytest.raises(SystemExit) as ended, options.exit_on_errors():
        raise error
    assert ended.value.code == code
    printed = capsys.readouterr()
    assert printed.out == ""
    assert len(printed.err.splitlines()) == (0 if code == 130 else 1)


def test_a_defect_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError), options.exit_on_errors():
        _ = 1 / 0


def test_a_pipe_that_is_closed_is_no_error():
    piped = subprocess.run(
        ["/bin/sh", "-c", f"{sys.executable} -m streams.cli topics --help | true"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert piped.stderr == ""


def test_a_pipe_that_is_closed_early_is_no_error():
    many = " ".join(["RB123456785GB"] * 5_000)
    piped = subprocess.run(
        ["/bin/bash", "-o", "pipefail", "-c", f"{sys.executable} -m streams.cli id {many} | head -n 1"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert piped.stdout.startswith("RB123456785GB")
    assert (piped.returncode, piped.stderr) == (0, "")


def test_a_full_disk_is_one_message_and_a_code():
    printed = subprocess.run(
        ["/bin/sh", "-c", f"{sys.executable} -m streams.cli id RB123456785GB > /dev/full"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert printed.returncode == 3
    assert printed.stderr == "parcels: standard output cannot be written: No space left on device\n"
