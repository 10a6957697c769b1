"""The page as a whole: what it says, that nothing foreign acts in it, its size, and runs that are not finished."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tapir.report.html import CSP, SECTIONS, write_report
from tapir.store.rundir import RunDir

ATTACKS = (
    "<script>document.title='owned'</script>",
    "</style></title></textarea><script src=//evil.example/x.js></script>",
    '<img src="http://evil.example/p.png" onerror="document.title=1">',
    "<svg onload=alert(1)><a href='javascript:alert(1)'>x</a></svg>",
    "[click](javascript:alert(1)) <iframe srcdoc='<script>1</script>'></iframe>",
    "<p style='position:fixed;inset:0;background:url(http://evil.example)'>x</p>",
    "\"' onmouseover=alert(1) x='",
    "]]><!--<math><mtext></form><form><mglyph><style></math><img src onerror=alert(1)>",
    "\u202eturned\x00\x1b]0;owned\x07",
)
MEGABYTES = 1_000_000
MakeRun = Callable[..., RunDir]


class Outline(HTMLParser):
    """Every tag with its attributes, and the page's text, as a browser's parser would split them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def outline(run: RunDir, tmp_path: Path) -> Outline:
    return Outline(write_report(run, tmp_path / "page.html").read_text(encoding="utf-8"))


def test_the_page_has_every_section_and_leaves_none_out_on_a_finished_run(finished_run: RunDir, tmp_path: Path):
    page = outline(finished_run, tmp_path)
    assert [a["id"] for t, a in page.tags if t == "section"] == [mark for mark, _, _ in SECTIONS]
    assert "Not there yet" not in page.text


def test_the_summary_says_what_was_distilled_how_much_better_it_got_and_what_it_cost(
    finished_run: RunDir, tmp_path: Path
):
    text = outline(finished_run, tmp_path).text
    hard = json.loads((finished_run.root / "round_0/07_hard.receipt.json").read_text())["rows_out"]
    assert "small-model was distilled from big-model: 3 of 3 rounds done." in text
    assert (
        f"Of 300 seeds {hard} were hard for student_0 (difficulty above 2); 225 instructions were grown from them."
        in text
    )
    assert re.search(r"student_3 beats student_0: win rate \d+\.\d % on 1\d\d prompts \(95 % CI", text)
    assert "8400 live calls" in text


def test_it_warns_of_what_should_not_be_leaned_on(finished_run: RunDir, tmp_path: Path):
    text = outline(finished_run, tmp_path).text
    assert "The judge that selected the hard seeds also evaluated the students" in text
    assert "Round 1 lacked 3 rows for its targets (Math)" in text
    assert "Some rates rest on 90 held-out prompts only" in text
    assert "smoke test" not in text


def test_drops_are_shown_with_reasons_in_plain_words(finished_run: RunDir, tmp_path: Path):
    text = outline(finished_run, tmp_path).text
    assert "the same text is in the pool already" in text
    assert "difficulty not above δ; it stays in the easy pool" in text


def test_best_cases_gained_and_worst_cases_lost(finished_run: RunDir, tmp_path: Path):
    page = write_report(finished_run, tmp_path / "page.html").read_text(encoding="utf-8")
    gained, lost = page.split("Where student_3 lost most")
    gaps = [re.findall(r"<b>([+−])\d", part.split('id="recipe"')[0]) for part in (gained, lost)]
    assert gaps == [["+"] * 10, ["−"] * 10]


def test_difficulty_is_shown_round_by_round_trained_on_and_held_out_apart(finished_run: RunDir, tmp_path: Path):
    text = outline(finished_run, tmp_path).text
    assert "Difficulty round by round" in text
    # Of the gaps 0 to 5, twice each, a round takes a point off seeds and half a point off held-out instructions.
    assert "student_0seeds trained on1217 % (5 to 45)50 % (25 to 75)+2.50 (+1." in text
    assert "student_3seeds trained on1267 % (39 to 86)0 % (0 to 24)+0.50 (+0." in text
    assert "student_3held-out instructions1233 % (14 to 61)33 % (14 to 61)+1.33 (+0." in text


def test_shares_that_speak_of_the_judge_have_their_intervals(finished_run: RunDir, tmp_path: Path):
    text = outline(finished_run, tmp_path).text
    assert re.search(r"in \d+ of \d+ judged pairs \(\d+ %, 95 % CI \d+ to \d+\)", text)
    assert "Null canaries" in text
    assert "can't be trusted" not in text


def test_every_chart_has_its_numbers_in_a_table(finished_run: RunDir, tmp_path: Path):
    tags = [t for t, _ in outline(finished_run, tmp_path).tags]
    assert tags.count("svg") == tags.count("figure") >= 16
    assert tags.count("details") >= tags.count("figure")
    assert tags.count("desc") == tags.count("svg")


def test_it_runs_no_script_and_fetches_nothing(finished_run: RunDir, tmp_path: Path):
    page = outline(finished_run, tmp_path)
    assert CSP.startswith("default-src 'none'")
    assert ("meta", {"http-equiv": "Content-Security-Policy", "content": CSP}) in page.tags
    assert not {"script", "iframe", "img", "link", "object", "embed", "form", "base"} & {t for t, _ in page.tags}
    links = [v for _, attributes in page.tags for k, v in attributes.items() if k in ("href", "src", "xlink:href")]
    assert all(str(link).startswith("#") for link in links)
    assert "url(" not in str([a for _, a in page.tags])


def test_an_arm_of_an_ablation_is_finished_with_one_measurement(finished_run: RunDir, tmp_path: Path):
    arm = tmp_path / "arm"
    shutil.copytree(finished_run.root, arm)
    rounds = sorted(path.name for path in arm.glob("round_[1-9]*"))
    evaluations = [arm / name / "06_evaluation.receipt.json" for name in rounds]
    for path in evaluations[:-1]:
        path.unlink()
    assert "The run is not finished" in outline(RunDir(arm), tmp_path).text
    shutil.copy(evaluations[-1], evaluations[-1].with_name("08_measured.receipt.json"))
    text = outline(RunDir(arm), tmp_path).text
    assert f"{len(rounds)} of {len(rounds)} rounds done" in text
    assert "The run is not finished" not in text


def test_the_same_files_give_the_same_bytes(finished_run: RunDir, tmp_path: Path, invent: MakeRun):
    first = write_report(finished_run, tmp_path / "a.html").read_bytes()
    assert write_report(finished_run, tmp_path / "b.html").read_bytes() == first
    assert write_report(invent("elsewhere")).read_bytes() == first


@pytest.mark.parametrize("attack", ATTACKS)
def test_text_from_models_and_data_is_never_markup(attack: str, invent: MakeRun, tmp_path: Path):
    def run(name: str, words: str) -> RunDir:
        tasks = [f"{words} {n}" for n in range(3)]
        return invent(name, seeds=24, held_out=12, rounds=1, words=words, tasks=tasks)

    calm = outline(run("calm", "calm"), tmp_path)
    shapes = {(t, k) for t, attributes in calm.tags for k in ("", *attributes)}
    wild = outline(run("wild", attack), tmp_path)
    assert {(t, k) for t, attributes in wild.tags for k in ("", *attributes)} <= shapes
    assert not [shape for shape in shapes if shape[1].startswith("on")]
    assert "\u202e" not in wild.text
    assert "\x00" not in wild.text


def test_ten_times_the_seeds_make_the_page_no_larger(invent: MakeRun):
    small = write_report(invent("small", seeds=800, held_out=80, rounds=1)).stat().st_size
    large = write_report(invent("large", seeds=8_000, held_out=80, rounds=1)).stat().st_size
    assert large < 1.05 * small < MEGABYTES


def test_very_long_answers_and_many_rounds_do_too(invent: MakeRun):
    run = invent(seeds=40, held_out=40, rounds=12, words="<&>" * 20_000)
    assert write_report(run).stat().st_size < 3 * MEGABYTES


STAGES = ("seeds", "classified", "teacher_answers", "student_0", "student_answers", "verdicts", "hard", "held_out",
          "evaluation", "expanded", "mix", "student_1")  # fmt: skip


@pytest.mark.parametrize("until", STAGES)
def test_a_run_that_stopped_anywhere_has_a_page_that_says_so(until: str, invent: MakeRun, tmp_path: Path):
    text = outline(invent(seeds=24, held_out=12, until=until), tmp_path).text
    assert "Not there yet" in text
    assert re.search(rf"The run is not finished: the last finished step is round_\d/\d\d_{until};", text)


def test_a_run_that_has_only_begun_has_a_page(tmp_path: Path):
    (tmp_path / "manifest.json").write_text('{"tapir": "0.1.0"}', encoding="utf-8")
    text = outline(RunDir(tmp_path), tmp_path).text
    assert "No student has been evaluated yet." in text
    assert "the run has no recipe.yaml" in text


def test_without_judged_pairs_the_results_by_check_still_stand(invent: MakeRun, tmp_path: Path):
    run = invent(seeds=24, held_out=12, rounds=1)
    for path in run.root.glob("round_*/*verdicts.parquet"):
        path.unlink()
    text = outline(run, tmp_path).text
    assert "held-out checks passed, %" in text
    assert "Not there yet: nothing has been judged." in text


@pytest.mark.browser
@pytest.mark.skipif(not shutil.which("chromium"), reason="Debian's chromium is not installed")
def test_a_browser_shows_a_hostile_run_without_complaint(invent: MakeRun, tmp_path: Path):
    page = write_report(invent(seeds=40, held_out=40, rounds=1, words=" ".join(ATTACKS)), tmp_path / "page.html")
    found = subprocess.run(
        ["chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}",
         "--enable-logging=stderr", "--dump-dom", page.as_uri()],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    # Chromium logs every message of a page's console, refused loads and policy violations among them, as CONSOLE.
    assert "CONSOLE" not in found.stderr
    dom = Outline(found.stdout)
    assert not {"script", "iframe", "img"} & {t for t, _ in dom.tags}
    assert "<title>invented · tapir report</title>" in found.stdout
