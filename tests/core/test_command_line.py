"""What a shell's user is told about a wrong command line."""

from typing import Literal

import pytest

from kd3d_core.cli.app import run


def first(place: str, *, sort: Literal["new", "old"] = "new", most_frames: int = 3) -> None:
    """The one command.

    Args:
        place: where.
        sort: which.
        most_frames: how many.
    """


def second(place: str) -> None:
    """The other.

    Args:
        place: where.
    """


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (
            ["first", "--nope"],
            "kd3d-x first: unrecognized arguments: --nope; see kd3d-x first --help",
        ),
        (["first"], "kd3d-x: the following arguments are required: first.place"),
        (["first", "a", "--sort", "best"], "kd3d-x first: --sort: expected 'new', 'old', got best"),
        (
            ["first", "a", "--most-frames", "x"],
            "kd3d-x first: --most-frames: expected int, got x; see kd3d-x first --help",
        ),
        ([], 'expected "subcommand" to be one of {first,second}, but it was not provided; see'),
        (["third" * 1000], "kd3d-x: argument subcommand: invalid choice: 'third"),
    ],
)
def test_a_wrong_command_line_is_one_line(
    words: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        run(
            {"first": first, "second": second},
            prog="kd3d-x",
            description="Does it.",
            examples=["kd3d-x first a"],
            args=words,
        )
    assert end.value.code == 2
    out, said = capsys.readouterr()
    assert not out
    assert reason in said
    assert said.count("\n") == 1
    assert len(said) < 600


def test_the_help_of_a_subcommand_has_its_own_examples(capsys: pytest.CaptureFixture[str]) -> None:
    examples = [
        "kd3d-x first a",
        "kd3d-x second first --sort new",
        "kd3d-x first b --most-frames 4",
    ]
    with pytest.raises(SystemExit):
        run(
            {"first": first, "second": second},
            prog="kd3d-x",
            description="Does it.",
            examples=examples,
            args=["first", "--help"],
        )
    end = "\n\nexamples:\n  kd3d-x first a\n  kd3d-x first b --most-frames 4\n"
    assert capsys.readouterr().out.endswith(end)
