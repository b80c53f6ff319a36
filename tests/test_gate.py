"""The gate for speed: when it fails, and that it does not where there is nothing to compare with."""

import shutil
import subprocess

import pytest

from bench import gate
from bench.cases import representatives
from bench.gate import Comparison
from bench.worker import Worker

CASE = representatives()[0]


def comparison(*ratios):
    """Twelve rounds of each pair of processes, with these ratios, more or less."""
    noise = (0.99, 1.0, 1.01, 1.0)
    return Comparison(CASE, [[(1.0, ratio * noise[i % 4]) for i in range(12)] for ratio in ratios])


@pytest.mark.parametrize(
    ("ratios", "verdict"),
    [
        ((1.0,), "same"),
        ((1.1,) * 5, "slower"),
        ((1.1,), "unclear"),  # not confirmed
        ((1.1,) * 4, "unclear"),
        ((1.2, 1.2, 1.2, 1.2, 1.0), "unclear"),  # one pair of processes does not agree
        ((1.04,) * 5, "same"),  # less than the threshold
        ((0.9,), "faster"),
    ],
)
def test_only_what_is_confirmed_counts(ratios, verdict):
    assert comparison(*ratios).verdict(0.05) == verdict


def test_what_looks_slower_is_measured_in_new_processes(monkeypatch):
    cases = representatives()[:3]
    true = {cases[0].id: [1.0], cases[1].id: [1.1] * 5, cases[2].id: [1.1, 1.0]}
    pairs = []

    def measure(comparisons, folders, threads, rounds, deadline):
        pairs.append([item.case.id for item in comparisons])
        for item in comparisons:
            item.pairs.append([(1.0, true[item.case.id].pop(0))] * rounds)

    monkeypatch.setattr(gate, "measure", measure)
    found = gate.compare(("a", "b"), cases, 2, 0.05, 1.0)
    assert pairs == [[case.id for case in cases], [cases[1].id, cases[2].id], *[[cases[1].id]] * 3]
    assert [item.verdict(0.05) for item in found] == ["same", "slower", "unclear"]
    text = gate.table(found, 0.05)
    assert len(text.splitlines()) == 4
    assert "1.100  1.100 to 1.100      60  slower" in text


def git(folder, *arguments):
    identity = ["-c", "user.name=nobody", "-c", "user.email=nobody@localhost", "-c", "init.defaultBranch=main"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository with a package of one commit."""
    if shutil.which("git") is None:
        pytest.skip("needs git")
    monkeypatch.setattr(gate, "ROOT", tmp_path)
    (tmp_path / "fastpool").mkdir()
    (tmp_path / "fastpool" / "__init__.py").write_text("old = True\n", encoding="utf-8")
    git(tmp_path, "init")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "First")
    return tmp_path


def change(repository, *message):
    (repository / "fastpool" / "__init__.py").write_text("new = True\n", encoding="utf-8")
    git(repository, "commit", "-a", *(part for line in message for part in ("-m", line)))


def test_without_history_there_is_nothing_to_compare_with(repository, capsys):
    assert gate.main([]) == 0  # the first commit
    shutil.rmtree(repository / ".git")
    assert gate.main([]) == 0  # an archive, not a clone
    assert capsys.readouterr().out.count("nothing to compare with") == 2
    assert gate.main(["--against", "HEAD~1"]) == 2


def test_commits_that_leave_the_package_alone_are_not_measured(repository, capsys):
    (repository / "README").write_text("text", encoding="utf-8")
    git(repository, "add", ".")
    git(repository, "commit", "-m", "Words")
    assert gate.main([]) == 0
    assert "the package is that of HEAD~1" in capsys.readouterr().out


def test_both_packages_are_laid_out(repository, tmp_path):
    change(repository, "Second")
    folder = tmp_path / "folder"
    folder.mkdir()
    before, now = gate.lay_out(gate.before_this(None), folder)
    assert (before / "fastpool" / "__init__.py").read_text(encoding="utf-8") == "old = True\n"
    assert (now / "fastpool" / "__init__.py").read_text(encoding="utf-8") == "new = True\n"
    # What is not committed yet is compared with the last commit.
    (repository / "fastpool" / "__init__.py").write_text("newest = True\n", encoding="utf-8")
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=repository, capture_output=True, text=True, check=True)
    assert gate.before_this(None) == head.stdout.strip()


@pytest.mark.parametrize(
    ("ratio", "message", "code"), [(1.0, "x", 0), (1.2, "x", 1), (1.2, "Slower: right at last", 0)]
)
def test_exit_codes(repository, monkeypatch, capsys, ratio, message, code):
    change(repository, "Second", message)
    monkeypatch.setattr(gate, "compare", lambda *arguments: [comparison(*[ratio] * 5)])
    assert gate.main([]) == code
    assert "First, times in milliseconds" in capsys.readouterr().out


def test_a_worker_measures_the_package_that_it_is_told(tmp_path):
    (tmp_path / "fastpool").mkdir()
    (tmp_path / "fastpool" / "__init__.py").write_text("", encoding="utf-8")
    with Worker("numpy", 1, tmp_path) as worker:
        assert worker.origin("fastpool") == str(tmp_path / "fastpool")
        assert worker.origin("bench") == str(gate.Path(gate.__file__).parent)
