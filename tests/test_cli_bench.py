"""`fastpool bench`: what it refuses, prints, writes and compares. Times and rates are made up here."""

import json

import pytest

import fastpool
from fastpool.cli import bench, main
from fastpool.measuring.limits import Limits

ONLY = ["--only", "lenet/subsample"]  # two layers


class FakeMeter:
    """Rates that never change."""

    factor = 1.0

    def __init__(self, dtype, threads):
        self.threads = threads

    def limits(self):
        return Limits(self.threads, 2e11, 3e10, 3e10, 2e11)

    def rate(self, kind):
        return self.factor * {"flops": 2e11, "copy": 3e10}[kind]


@pytest.fixture
def times(monkeypatch, tmp_path):
    """Function that sets the times that blocks take from now on, one after the other, the last one for ever."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(bench, "Meter", FakeMeter)

    def use(*seconds):
        left = list(seconds)

        def measure(run, warm, span):
            value = left.pop(0) if len(left) > 1 else left[0]
            if value is None:
                raise KeyboardInterrupt
            return value

        monkeypatch.setattr(bench, "measure_call", measure)

    use(1e-3)
    return use


def test_table_file_and_picture(times, capsys, tmp_path):
    assert main(["bench", *ONLY, "--rounds", "6", "--json", "a.json", "--roofline", "r.svg"]) == 0
    out, err = capsys.readouterr()
    assert "limits: 200 GFLOP/s of multiply-adds; 30.0 GB/s read from memory" in out
    line = next(line for line in out.splitlines() if line.startswith("lenet/subsample 2x2s2 64x6x28"))
    assert line.split()[3:] == ["1.00", "ms", "0.0", "%", "0.3", "0", "%", "1.5", "5", "%"]
    assert "r.svg" in err
    assert "net/layer" not in (tmp_path / "r.svg").read_text(encoding="utf-8")
    written = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert written["settings"] == {
        "dtype": "float32",
        "threads": fastpool.get_num_threads(),
        "rounds": 6,
        "quick": False,
    }
    assert [case["seconds"] for case in written["cases"]] == [[1e-3] * 6] * 2
    assert written["machine"]["numba"] in written["footnote"]


@pytest.mark.parametrize(
    ("seconds", "rate", "verdicts", "code"),
    [
        (1e-3, 1.0, "0 slower, 0 faster, 2 same, 0 unclear", 0),
        (1.2e-3, 1.0, "2 slower, 0 faster, 0 same, 0 unclear", 1),
        (0.5e-3, 1.0, "0 slower, 2 faster, 0 same, 0 unclear", 0),
        (2e-3, 0.5, "0 slower, 0 faster, 2 same, 0 unclear", 0),  # a machine that is half as fast at this moment
    ],
)
def test_verdicts_against_a_file(times, capsys, monkeypatch, seconds, rate, verdicts, code):
    assert main(["bench", *ONLY, "--rounds", "6", "--json", "a.json"]) == 0
    times(seconds)
    monkeypatch.setattr(FakeMeter, "factor", rate)
    assert main(["bench", *ONLY, "--rounds", "6", "--against", "a.json"]) == code
    assert verdicts in capsys.readouterr().out


def test_what_is_slower_once_is_measured_again(times, capsys):
    assert main(["bench", *ONLY, "--rounds", "6", "--json", "a.json"]) == 0
    times(*[2e-3] * 12, 1e-3)  # two layers of six rounds, and then as before
    assert main(["bench", *ONLY, "--rounds", "6", "--against", "a.json"]) == 0
    assert "0 slower" in capsys.readouterr().out


def test_an_interruption_leaves_what_was_measured(times, capsys, tmp_path):
    times(1e-3, 1e-3, 2e-3, None)
    assert main(["bench", *ONLY, "--json", "a.json"]) == 130
    assert "lenet/subsample 2x2s2 64x16x10" in capsys.readouterr().out
    written = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert [case["seconds"] for case in written["cases"]] == [[1e-3, 2e-3], [1e-3]]
    times(None)
    assert main(["bench", *ONLY, "--json", "b.json"]) == 130
    assert json.loads((tmp_path / "b.json").read_text(encoding="utf-8"))["cases"] == []


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--only", "no such layer"], "--only"),
        (["--rounds", "0"], "--rounds"),
        (["--json", "gone/a.json"], "--json"),
        (["--json", "."], "--json"),
        (["--roofline", "a.txt"], "--roofline"),
        (["--against", "gone.json"], "cannot read gone.json"),
        (["--against", "text.json"], "it is no JSON"),
        (["--against", "other.json"], "was not written by"),
        (["--against", "threads.json"], "with threads 99"),
        (["--against", "empty.json"], "none of the layers"),
    ],
)
def test_refusals(times, capsys, tmp_path, arguments, complaint):
    (tmp_path / "text.json").write_text("text", encoding="utf-8")
    (tmp_path / "other.json").write_text("[]", encoding="utf-8")
    assert main(["bench", *ONLY, "--json", "a.json"]) == 0
    written = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    (tmp_path / "empty.json").write_text(json.dumps(written | {"cases": []}), encoding="utf-8")
    written["settings"]["threads"] = 99
    (tmp_path / "threads.json").write_text(json.dumps(written), encoding="utf-8")
    capsys.readouterr()
    times(None)  # nothing may be measured
    assert main(["bench", *ONLY, *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert complaint in err


def test_other_versions_are_named(times, capsys, tmp_path):
    assert main(["bench", *ONLY, "--rounds", "6", "--json", "a.json"]) == 0
    written = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    written["machine"]["numba"] = "0.1"
    (tmp_path / "a.json").write_text(json.dumps(written), encoding="utf-8")
    assert main(["bench", *ONLY, "--rounds", "6", "--against", "a.json"]) == 0
    assert "warning: numba was 0.1, is " in capsys.readouterr().err


def test_without_matplotlib_there_is_a_table(times, capsys, monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    assert main(["bench", *ONLY]) == 0
    assert "needs matplotlib" in capsys.readouterr().err
    assert not (tmp_path / "roofline.png").exists()
    assert main(["bench", *ONLY, "--roofline", "a.png"]) == 2


def test_progress_is_shown_on_a_terminal_only(times, capsys, monkeypatch):
    main(["bench", *ONLY, "--rounds", "2", "--roofline", "a.png"])
    assert "measuring" not in capsys.readouterr().err
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    main(["bench", *ONLY, "--rounds", "2", "--roofline", "a.png"])
    err = capsys.readouterr().err
    assert "measuring ######" in err
    assert "4/4" in err
