"""The audit's questions are answered by its rules, and its pages follow from its results."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from scipy.special import ndtri

from tests.run_folders import ABOUT, COST, METHOD, PROTOCOL, write_run
from tools import audit, leaderboard
from tools.audit import ROOT, runs_of
from tools.auditing.claims import CLAIMS, Claim
from tools.auditing.comparing import Answer, Question, answers, samples_needed
from tools.auditing.comparisons import Comparisons
from tools.auditing.fronts import Fronts
from tools.auditing.orders import Orders
from tools.auditing.pages import claim_page, overview
from tools.make_results import SETS
from ttt_bench.api.errors import UserError
from ttt_bench.compare.read import FinishedRun, find_runs, read_runs
from ttt_bench.runner.config_file import entries, read_file
from ttt_bench.runner.verify import Subject, verify

IMAGES = 300
NOTHING = {"forward": 0.0, "backward": 0.0}


def runs(folder: Path, method: str, wrong: int, seed: int = 0, flops: float = 1e9) -> FinishedRun:
    """Write a run in which the first samples are wrong, and read it."""
    adapted = {"forward": flops, "backward": 0.0}
    write_run(
        folder / f"{method}-{seed}",
        protocol={**PROTOCOL, "seed": seed},
        method={**METHOD, "method": method},
        about={**ABOUT, "environment": {**ABOUT["environment"], "device": "cpu", "threads": 1}},
        cost={**COST, "flops_per_sample": {"frozen": NOTHING, "adapted": adapted}},
        group=["fog"] * IMAGES,
        wrong=wrong,
        image_digest=[f"{number}" for number in range(IMAGES)],
    )
    (read,) = read_runs([folder / f"{method}-{seed}"])
    return read


def answer(folder: Path, better: int, worse: int, seeds: int = 1, any_step: bool = False) -> Answer:
    """Return the answer for two rows of which so many of 300 samples are wrong."""
    found = {
        name: [runs(folder, name, wrong, seed) for seed in range(seeds)]
        for name, wrong in (("a", better), ("b", worse))
    }
    (one,) = answers([Question("a beats b", "a", "b", 10, any_step)], found)
    return one


@pytest.mark.parametrize("seeds", [1, 3])
def test_the_verdict_is_the_sign_of_a_difference_that_is_more_than_noise(
    tmp_path: Path, seeds: int
):
    better = answer(tmp_path / "0", 30, 90, seeds)
    assert (better.difference, better.verdict) == (pytest.approx(20), "holds here")
    assert answer(tmp_path / "1", 90, 30, seeds).verdict == "does not hold here"
    assert answer(tmp_path / "2", 90, 91, seeds).verdict == "not told apart"


def test_p_is_corrected_for_all_questions_of_a_claim(tmp_path: Path):
    found = {name: [runs(tmp_path, name, wrong)] for name, wrong in (("a", 30), ("b", 37))}
    alone = answers([Question("a beats b", "a", "b", 10)], found)
    both = answers([Question("a beats b", "a", "b", 10), Question("none", "a", "a", 0)], found)
    assert both[0].p == pytest.approx(2 * alone[0].p)


def test_rows_of_other_samples_or_seeds_are_not_compared(tmp_path: Path):
    found = {"a": [runs(tmp_path, "a", 30, 0)], "b": [runs(tmp_path, "b", 30, 1)]}
    with pytest.raises(UserError, match="a and b have other samples or seeds"):
        answers([Question("a beats b", "a", "b", 10)], found)
    with pytest.raises(UserError, match="no runs are called 'c'; there are a, b"):
        answers([Question("a beats c", "a", "c", 10)], found)


def test_the_samples_that_are_needed_show_the_gain_in_four_of_five_draws():
    differing, gain, draws = 0.1, 0.02, 4000
    n = samples_needed(differing, gain)
    shares = [(differing + gain) / 2, (differing - gain) / 2, 1 - differing]
    won, lost, _ = np.random.default_rng(0).multinomial(n, shares, draws).T
    # McNemar's test without its correction for continuity, which the approximation leaves out.
    seen = (won - lost) / np.sqrt(won + lost) > ndtri(0.975)
    assert seen.mean() == pytest.approx(0.8, abs=0.02)
    assert samples_needed(0.2) > samples_needed(0.1) > samples_needed(0.02)


def test_the_smallest_gain_falls_with_the_samples_that_differ(tmp_path: Path):
    few, many = answer(tmp_path / "0", 30, 33), answer(tmp_path / "1", 30, 90)
    assert few.smallest_gain < many.smallest_gain
    # 2.8 standard errors of a difference of which 20 % of 300 samples differ
    error = 100 * (0.2 * 0.8 / IMAGES) ** 0.5
    assert many.smallest_gain == pytest.approx(2.8 * error, rel=0.05)


def test_a_claim_of_orders_counts_what_changes(tmp_path: Path):
    same = [runs(tmp_path / side, "fixed", 30) for side in "ab"]
    other = [runs(tmp_path / "a", "leaking", 30), runs(tmp_path / "b", "leaking", 35)]
    first, second = Orders("leaking").outcome({"fixed": same, "leaking": other}).lines
    assert first.result == "0 predictions and 0 confidences changed"
    assert second.result == "5 predictions and 0 confidences changed"
    assert (first.verdict, second.verdict) == ("holds here", "holds here")
    leaks, _ = Orders("fixed").outcome({"fixed": same, "leaking": other}).lines
    assert leaks.verdict == "does not hold here"


def test_a_claim_of_fronts_names_the_rows_on_it(tmp_path: Path):
    found = {
        name: [runs(tmp_path, name, wrong, flops=flops)]
        for name, wrong, flops in (("cheap", 90, 1e9), ("dear", 95, 3e9), ("best", 30, 2e9))
    }
    outcome = Fronts().outcome(found)
    (line,) = outcome.lines
    assert line.result == "2 of 3 on the front: cheap, best"
    assert line.verdict == "does not hold here"
    assert "| dear | 3 | 68.3 | no | -21.7\\* [" in "\n".join(outcome.blocks)


def test_a_page_has_the_source_the_verdict_and_the_commands(tmp_path: Path):
    part = Comparisons((Question("a beats b", "a", "b", 10),))
    claim = Claim("small", "A beats B", "A paper, table 1.", ("How.",), part, "command", "data")
    found = {"a": [runs(tmp_path, "a", 30)], "b": [runs(tmp_path, "b", 90)]}
    text = claim_page(claim, found, part.outcome(found))
    for wanted in (
        "# A beats B",
        "A paper, table 1.",
        "| a beats b | a less b | +20.0 | +15.7 to +24.7 | below 0.0001 | **holds here** |",
        "| a beats b | 10 % | 1955 | 300 | 20.0 % |",
        "ttt-bench verify audit/results/small.zip --samples 4",
        "ttt-bench run --config audit/small.yaml",
        "```sh\ncommand\n```",
    ):
        assert wanted in text
    lines = overview({"small": part.outcome(found).lines}, [claim])
    assert "| [A beats B](small.md) | a beats b | imagefolder, tiny-clip, 300 samples" in lines
    assert "| as its paper tests it | data |  |  |  | **not testable here** |" in lines


def test_a_question_without_runs_is_said_to_be_open(tmp_path: Path):
    part = Comparisons((Question("a beats b", "a", "b", 10), Question("a beats c", "a", "c", 5)))
    found = {"a": [runs(tmp_path, "a", 30)], "b": [runs(tmp_path, "b", 90)]}
    assert [one.verdict for one in part.outcome(found).lines] == ["holds here", "(not run yet)"]
    assert "Not run yet: a beats c." in "\n".join(part.outcome(found).blocks)


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.name)
def test_every_claim_has_a_file_with_the_rows_it_names(claim: Claim):
    file = ROOT / "audit" / f"{claim.name}.yaml"
    names = {one.name or one.method for one in entries(file, read_file(file))}
    if isinstance(claim.part, Comparisons):
        asked = {name for one in claim.part.questions for name in (one.better, one.worse)}
        assert asked <= names


def test_the_claim_on_cost_has_every_row_of_the_results():
    file = ROOT / "audit" / "pareto.yaml"
    names = {one.name or one.method for one in entries(file, read_file(file))}
    assert {method for one in SETS if one.exported for method in one.methods} <= names


def test_the_pages_follow_from_the_results():
    assert audit.main(["--check"]) == 0, "type `python tools/audit.py`"


def test_the_leaderboard_follows_from_the_results():
    assert leaderboard.page(leaderboard.RESULTS) == leaderboard.PAGE.read_text("utf-8")


def test_every_file_of_results_was_verified():
    outcomes = json.loads((ROOT / "audit" / "results" / "verified.json").read_text("utf-8"))
    files = leaderboard.files(leaderboard.RESULTS)
    assert sorted(outcomes) == [path.name for path in files]
    for path in files:
        outcome = outcomes[path.name]
        assert outcome["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
        assert outcome["different"] == 0 < outcome["checked"]


def test_samples_of_a_result_are_the_same_again():
    (claim,) = (one for one in CLAIMS if one.name == "tpt-views")
    frozen = runs_of(claim)["clip-zero-shot"][0].card.key
    path = ROOT / "audit" / "results" / f"{claim.name}.zip"
    (files,) = (one for one in find_runs([path])[0] if one.card().key == frozen)
    counts = verify(files, 2, Subject(device="cpu")).counts()
    assert counts["different"] == 0 < counts["checked"]


def test_a_leaderboard_marks_files_whose_bytes_were_verified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    source = ROOT / "audit" / "results" / "tpt-views.zip"
    (tmp_path / "mine.zip").write_bytes(source.read_bytes())
    assert "| mine.zip | no |" in leaderboard.page(tmp_path)
    outcome = {"sha256": leaderboard.sha256(source), "checked": 48, "different": 0}
    (tmp_path / "verified.json").write_text(json.dumps({"mine.zip": outcome}), "utf-8")
    assert "| mine.zip | yes, 48 |" in leaderboard.page(tmp_path)
    outcome["different"] = 1
    (tmp_path / "verified.json").write_text(json.dumps({"mine.zip": outcome}), "utf-8")
    assert "| mine.zip | no, 1 of 48 different |" in leaderboard.page(tmp_path)
    outcome["sha256"] = "0"
    (tmp_path / "verified.json").write_text(json.dumps({"mine.zip": outcome}), "utf-8")
    assert "| mine.zip | no |" in leaderboard.page(tmp_path)
