"""Configurations hold values and nothing else; a line says what is wrong with one, and where."""

import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from kd3d_core.config import (
    ADDED,
    check_each,
    load_config,
    make_config,
    parse_yaml,
    settings_digest,
)
from kd3d_core.errors import ConfigError
from kd3d_core.models.config import load_model_config


@dataclass(frozen=True)
class Inner:
    size: int = 3


@dataclass(frozen=True)
class Settings:
    batch_size: int
    inner: Inner = field(default_factory=Inner)
    teacher: Inner | None = None
    lr: float = 1e-3
    name: str | None = None
    window: tuple[int, int] = (1, 2)
    bands: tuple[float, ...] = ()
    counts: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.batch_size < 1:  # a TypeError if it were None
            raise ConfigError("batch_size must be positive")


def load(tmp_path: Path, text: str | bytes) -> Settings:
    path = tmp_path / "run.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_config(Settings, path)


def test_values_of_each_kind(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        "batch_size: 2\nlr: 1e-4\ninner: {size: 7}\nname: x\nwindow: [3, 4]\nbands: [1, 2.5]\n"
        "counts: {Car: 15}\n",
    )
    assert config == Settings(2, Inner(7), None, 1e-4, "x", (3, 4), (1, 2.5), {"Car": 15})
    assert load(tmp_path, "batch_size: 2\nteacher: {}\nname:\n").teacher == Inner()


def test_files_as_windows_writes_them(tmp_path: Path) -> None:
    assert load(tmp_path, b"\xef\xbb\xbfbatch_size: 2\r\nname: x\r\n") == Settings(2, name="x")
    assert load(tmp_path, "batch_size: 2\r\nname: x\r\n".encode("utf-16")) == Settings(2, name="x")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("batch_size:", "batch_size is empty: give it a value"),
        ("batch_size: 2\ninner:", "inner is empty"),
        ("batch_size: 2\ninner: {size: }", "inner.size is empty"),
        ("batch_size: 2\nwindow: [1, 2]\nbands: [1, null]", "bands is empty"),
        ("batch_size: 2\nwindow: [1, ]", "window has 1 values, and 2 are needed"),
        ("batch_size: 2.5", "batch_size is 2.5, not a whole number"),
        ("batch_size: true", "batch_size is True, not a whole number"),
        ("batch_size: 2\nbands: 1", "bands is 1, not a list"),
        ("batch_size: 2\ncounts: {Car: }", "counts.Car is empty"),
        ("batch_size: 2\nlr: .nan", "lr is nan, not a finite number"),
        ("batch_size: 2\nlr: .inf", "lr is inf, not a finite number"),
        ("batch_size: 2\nlr: 'nan'", "lr is 'nan', not a number"),
        ("batch_size: two", "batch_size is 'two', not a whole number"),
        ("batch_size: [2]", "batch_size"),
        ("batch_size: 2\nname: 5", "name is 5, not a text"),
        ("batch_size: 2\ninner: 5", "inner holds '5', not settings"),
        ("batch_size: 2\ninner: [1]", r"inner holds '\[1\]', not settings"),
        ("batch_size: 2\nbatchsize: 3", "unknown key 'batchsize'"),
        ("batch_size: 2\ninner: {sise: 3}", "unknown key 'inner.sise'"),
        ("batch_size: 2\n5: 3", "unknown key '5'"),
        ("lr: 0.1", "batch_size is missing"),
        ("batch_size: 2\nbatch_size: 3", "'batch_size' stands twice"),
        ("- 1", "holds no settings"),
        ("", "holds no settings"),
        ("batch_size: [", "no valid YAML"),
        ("batch_size: 2020-13-45", "no valid YAML"),
        ("batch_size: " + "9" * 5000, "no valid YAML"),
        ("batch_size: 2\nname: !!python/object/apply:os.getcwd []", "no valid YAML"),
        ("name: " + "[" * 5000, "nested too deeply"),
        ("name: " + "x" * 300_000, r"larger than 0\.3 MB"),
    ],
)
def test_what_is_wrong_is_one_short_line(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason) as caught:
        load(tmp_path, text)
    message = str(caught.value)
    assert message.startswith(str(tmp_path / "run.yaml"))
    assert "\n" not in message
    assert len(message) < 600


def test_aliases_are_refused_before_they_can_grow(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join(9 * [f'*a{n - 1}'])}]" for n in range(1, 12)]
    with pytest.raises(ConfigError, match=r"aliases are not read.*line 2"):
        load(tmp_path, "\n".join(lines))


def test_no_configuration_imports_a_module_or_reads_another_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "harmful.py").write_text("class C: pass\nraise SystemExit('it ran')\n")
    (tmp_path / "inner.yaml").write_text("size: 7\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for inner in (
        "{class_path: harmful.C}",
        "{class_path: harmful.C, init_args: {}}",
        "harmful.C",
        "inner.yaml",
        "{__path__: inner.yaml}",
    ):
        for key in ("inner", "teacher"):
            with pytest.raises(ConfigError, match=r"unknown key|not settings"):
                load(tmp_path, f"batch_size: 2\n{key}: {inner}")
    with pytest.raises(ConfigError, match="unknown key 'class_path'"):
        load(tmp_path, "class_path: harmful.C")
    (tmp_path / "run.yaml").write_text("batch_size: 2")
    with pytest.raises(ConfigError, match="not settings"):
        load_config(Settings, Path("run.yaml"), ["inner=harmful.C"])
    assert "harmful" not in sys.modules


def test_changes_and_plain_values_are_checked_alike(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("batch_size: 2\n")
    assert load_config(Settings, path, ["inner.size=5", "lr=1e-2"]) == Settings(
        2, Inner(5), lr=0.01
    )
    for change, reason in (("batch_size=", "is empty"), ("lr=*a", "aliases|YAML")):
        with pytest.raises(ConfigError, match=reason):
            load_config(Settings, path, [change])
    with pytest.raises(ConfigError, match=r"meta: inner\.size is empty"):
        make_config(Settings, {"batch_size": 2, "inner": {"size": None}}, "meta")


def test_plain_yaml() -> None:
    assert parse_yaml("a: [1, 2.5, x, yes]") == {"a": [1, 2.5, "x", True]}


def test_settings_without_end_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"/dev/zero: cannot be read: it is larger than 0\.3 MB"):
        load_config(Settings, "/dev/zero")


def test_texts_may_be_longer_where_that_is_said() -> None:
    text = "x" * 300_001
    with pytest.raises(ConfigError, match="300001 characters of YAML; at most 300000"):
        parse_yaml(text)
    assert parse_yaml(text, len(text)) == text


def test_a_setting_that_was_added_later_changes_no_digest_while_it_has_its_default():
    """Runs and caches of before go on."""

    @dataclass(frozen=True)
    class Old:
        size: int = 1

    @dataclass(frozen=True)
    class New:
        size: int = 1
        kind: str | None = field(default=None, metadata=ADDED)

    assert settings_digest([New()]) == settings_digest([Old()])
    assert settings_digest([New(kind="x")]) != settings_digest([Old()])
    assert settings_digest([New(size=2)]) == settings_digest([Old(size=2)])


def test_runs_of_the_first_version_find_their_models_unchanged():
    """The digests that its checkpoints hold, and its caches are named by."""
    lite = load_model_config("lite")
    digests = [settings_digest(replace(part, weights="")) for part in (lite.detector, lite.depth)]
    assert [digest[:12] for digest in digests] == ["88b240f3cb38", "09499b0afdfb"]


def test_the_first_setting_that_cannot_be_is_named_with_its_group() -> None:
    settings = Settings(2, lr=0.0)
    check_each(settings, ("batch_size",), lambda value: value > 0, "give more", "run")
    with pytest.raises(ConfigError, match=r"^run\.lr is 0\.0: give more$"):
        check_each(settings, ("batch_size", "lr"), lambda value: value > 0, "give more", "run")
    with pytest.raises(ConfigError, match=r"^lr is 0\.0: give more$"):
        check_each(settings, ("batch_size", "lr"), lambda value: value > 0, "give more")
