"""What the studio's pages show, with texts that try to be more than text."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import quote

import pytest
from asking import Asker
from invented import Invented

from tapir.config import parse_recipe
from tapir.pipeline import run as distil
from tapir.report.judge import keep_second, verdicts_mark
from tapir.steps.plans import round_table
from tapir.store.progress import ProgressFile
from tapir.store.rundir import RunDir
from tapir.studio.serving import serving
from tapir.types import Answer, Difficulty, Dropped, Example, Instruction, Message, Receipt, Verdict

ATTACKS = (
    "<script>alert(1)</script><img src=x onerror=alert(2)>[click](javascript:alert(3))"
    "<svg onload=alert(4)><style>*{display:none}</style></svg>\"'><a href='javascript:alert(5)'>x</a>"
    "</title></textarea><iframe srcdoc='<script>alert(6)</script>'>{{7*7}}\u202e\x1b[31m"
)
PAGES = ("/", "/run/run", "/run/run/rows", "/run/run/difficulty", "/run/run/mix", "/run/run/judge", "/run/run/answers",
         "/compare?a=run&b=run")  # fmt: skip


class Scan(HTMLParser):
    """Collects what a browser would act on."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.bad: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        for name, value in attrs:
            aimed = name in ("href", "src", "action", "formaction", "srcdoc", "xlink:href")
            outside = aimed and not re.match(r"(/(?!/)|#)", value or "")
            if name.startswith("on") or name == "style" or outside:
                self.bad.append(f"{tag} {name}={value}")


def scanned(text: str) -> Scan:
    scan = Scan()
    scan.feed(text)
    return scan


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("attacked")
    run = Invented(folder / "run", seeds=60, held_out=20, rounds=1, words=ATTACKS).build()
    with serving(folder, annotate=True, author="<b>ada</b>") as url:
        yield Asker(url), run


def first_id(run: RunDir) -> str:
    return next(run.step("round_0/02_classified", "").read(Instruction)).id


def test_no_text_of_a_model_becomes_markup_on_any_page(attacked):
    asker, run = attacked
    held_out = next(run.step("round_0/08_held_out", "").read(Instruction)).id
    own = (f"/run/run/instruction/{first_id(run)}", f"/run/run/instruction/{held_out}", "/run/run/annotate")
    for path in (*PAGES, *own):
        text = asker.page(path)
        scan = scanned(text)
        assert scan.bad == [], path
        assert not scan.tags.keys() & {"iframe", "img", "style", "object", "embed", "base"}, path
        assert scan.tags["script"] == 1, path  # our own, by address
        assert "\u202e" not in text, path
        assert "\x1b" not in text, path


def test_the_text_is_still_there_to_be_read(attacked):
    asker, run = attacked
    text = asker.page(f"/run/run/instruction/{first_id(run)}")
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "[click](javascript:alert(3))" in text
    assert "⟨U+202E⟩" in text


def test_what_a_request_says_comes_back_escaped(attacked):
    asker, _ = attacked
    text = asker.page("/run/run/rows?q=%22%3E%3Cscript%3Ealert(1)%3C/script%3E&task=%27%3B%20DROP%20TABLE%20x")
    assert scanned(text).bad == []
    assert scanned(text).tags["script"] == 1
    assert "0 rows" in text


def test_a_filter_narrows_the_table_and_says_how_many_fit(reader):
    everything = reader.page("/run/run/rows?stage=round_0/02_classified")
    assert "300 rows handed on" in everything
    assert "page 1 of 6" in everything
    one = reader.page("/run/run/rows?stage=round_0/02_classified&q=QUESTION+123")
    assert "1 row handed on" in one
    assert "Question 123" in one


@pytest.mark.parametrize("said", ["İstanbul", "ΟΔΥΣΣΕΥΣ"])
def test_a_search_finds_what_is_written_as_it_was_typed(invent, tmp_path: Path, said: str):
    run = invent(seeds=4, held_out=3, rounds=1, until="classified")
    rows = list(run.step("round_0/02_classified", "").read(Instruction))
    run.step("round_0/02_classified", "").write(Instruction, [*rows, Instruction(f"How large is {said} now?")])
    with serving(tmp_path) as url:
        text = Asker(url).page(f"/run/run/rows?stage=round_0/02_classified&q={quote(said)}")
    assert "1 row handed on" in text


def test_dropped_rows_are_listed_by_reason(reader, finished_run: RunDir):
    dropped = finished_run.receipts()["round_0/07_hard"]["dropped"]
    for reason, count in dropped.items():
        text = reader.page(f"/run/run/rows?stage=round_0/07_hard&dropped={reason}")
        assert f"{count:,} rows dropped by" in text, reason


@pytest.mark.parametrize(("reason", "count"), [("exact_duplicate", 7), ("contaminated", 2), ("broken_json", 1)])
def test_seeds_dropped_before_they_were_written_are_listed_with_place_and_reason(reader, reason: str, count: int):
    text = reader.page(f"/run/run/rows?stage=round_0/01_seeds&dropped={reason}")
    assert f"{count} row{'s' if count > 1 else ''} dropped by" in text
    assert text.count("pool.jsonl:") == count
    assert "dropped before they were written" not in text


def test_what_a_dropped_seed_repeats_is_a_link_where_it_has_a_page(reader, finished_run: RunDir):
    kept = first_id(finished_run)
    text = reader.page("/run/run/rows?stage=round_0/01_seeds&dropped=exact_duplicate")
    assert text.count(f'<a href="/run/run/instruction/{kept}">{kept}</a>') == 7
    assert "<td>gsm8k/9</td>" in reader.page("/run/run/rows?stage=round_0/01_seeds&dropped=contaminated")
    assert "(unreadable)</bdi></th>" in reader.page("/run/run/rows?stage=round_0/01_seeds&dropped=broken_json")


def test_held_out_instructions_without_an_answer_are_listed(invent, tmp_path: Path):
    run = invent(seeds=4, held_out=5, rounds=1, until="held_out")
    step = run.step("round_0/08_held_out", "again")
    step.write(Answer, list(step.read(Answer, "answers"))[:3], "answers")
    step.finish(Receipt("held_out", rows_in=5, rows_out=3, dropped=Counter(truncated=2)))
    with serving(tmp_path) as url:
        text = Asker(url).page("/run/run/rows?stage=round_0/08_held_out&dropped=truncated")
    assert "2 rows dropped by" in text
    assert "Held-out question 4" in text


def test_undrawn_hard_rows_are_those_that_the_round_could_draw(invent, tmp_path: Path):
    run = invent(seeds=20, held_out=3, rounds=1, until="hard")
    hard = len(list(run.step("round_0/07_hard", "").read(Difficulty)))
    for number in (2, 10):
        grown = [Instruction(f"Grown {number}.{n}", origin="expanded", round=number) for n in range(4)]
        run.step(f"round_{number}/01_expanded", "").write(Instruction, grown)
        # The last grown one lost its answer, the one before is drawn.
        answers = [Answer(i.id, "teacher", "Yes.") for i in grown[:3]]
        run.step(f"round_{number}/03_enhanced_answers", "").write(Answer, answers)
        step = run.step(f"round_{number}/04_mix", "x")
        step.write(Example, [Example((*grown[2].messages(), Message("assistant", "Yes.")), grown[2].id, "Math", True)])
        step.finish(Receipt("mix", rows_in=2, rows_out=1, dropped=Counter(undrawn_hard=1)))
    with serving(tmp_path) as url:
        asker = Asker(url)
        second, tenth = (asker.page(f"/run/run/rows?stage=round_{n}/04_mix&dropped=undrawn_hard") for n in (2, 10))
    assert f"{hard + 2} rows dropped by" in second
    # Of round 2 the drawn row is there to be drawn again.
    assert f"{hard + 3 + 2} rows dropped by" in tenth


def test_a_search_and_a_sort_work_on_dropped_seeds_too(reader):
    text = reader.page("/run/run/rows?stage=round_0/01_seeds&dropped=contaminated&q=item+10&sort=-mfd")
    assert "1 row dropped by" in text
    assert "pool.jsonl:10" in text


def test_a_dropped_seed_has_a_page_that_says_why(reader):
    text = reader.page(f"/run/run/instruction/{'c' * 15}9")
    assert "Dropped by round 0 · seeds" in text
    assert "it is part of the evaluation data; it stood at pool.jsonl:9; it repeats gsm8k/9." in text
    assert "Item 9" in text


def test_rejected_grown_instructions_are_listed_by_reason(reader):
    text = reader.page("/run/run/rows?stage=round_1/01_expanded&dropped=near_duplicate")
    assert "1 row dropped by" in text


def test_dropped_teacher_answers_are_told_apart_by_reason(invent, tmp_path: Path):
    run = invent(seeds=40, held_out=12, rounds=1, until="teacher_answers")
    dropped = [Dropped("truncated", "And so on and", "a" * 16), Dropped("teacher_wrong", "41", first_id(run))]
    run.step("round_0/03_teacher_answers", "").write(Dropped, dropped, "dropped")
    receipt = Receipt("teacher_answers", rows_in=42, rows_out=40, dropped=Counter(truncated=1, teacher_wrong=1))
    run.step("round_0/03_teacher_answers", "x").finish(receipt)
    with serving(tmp_path) as url:
        asker = Asker(url)
        text = asker.page("/run/run/rows?stage=round_0/03_teacher_answers&dropped=teacher_wrong")
        assert "1 row dropped by" in text
        assert "Question 0" in text
        own = asker.page(f"/run/run/instruction/{first_id(run)}")
        assert (
            "the teacher&#x27;s answer fails the instruction&#x27;s own check" in own or "fails the instruction" in own
        )
        assert "41" in own


def test_moving_delta_says_what_each_task_keeps(reader):
    text = reader.page("/run/run/difficulty?delta=4")
    assert "δ = 4 keeps" in text
    assert "the run took δ = 2" in text


def test_a_seed_exactly_at_delta_is_not_kept(invent, tmp_path: Path):
    run = invent(seeds=4, held_out=3, rounds=1)
    pool = list(run.step("round_0/02_classified", "").read(Instruction))
    # 1.2345678 is δ by a quantile of one half.
    values = (1.1, 1.2345678, 1.2347, 2.0)
    found = [Difficulty(i.id, v, "loss", votes=0) for i, v in zip(pool, values, strict=True)]
    select_again(run, found, delta_loss=1.2345678)
    with serving(tmp_path) as url:
        text = Asker(url).page("/run/run/difficulty")
    assert "δ = 1.235 keeps 2 of 4 seeds (50 %); the run took δ = 1.235." in text


def select_again(run: RunDir, found: list[Difficulty], **deltas: float) -> None:
    """Selection with these difficulties and thresholds."""
    step = run.step("round_0/07_hard", "again")
    step.write(Difficulty, found, "all")
    hard = [d for d in found if d.value > deltas[f"delta_{d.kind}"]]
    step.write(Difficulty, hard)
    dropped = Counter(not_hard=len(found) - len(hard))
    step.finish(Receipt("hard", rows_in=len(found), rows_out=len(hard), dropped=dropped, notes=dict(deltas)))


def test_the_planner_keeps_alpha(reader):
    text = reader.page("/run/run/mix?alpha=0.5&size=20")
    assert "20 rows: 10 hard and 10 easy" in text


def test_the_planner_counts_each_kind_against_the_runs_own_delta_until_one_is_given(invent, tmp_path: Path):
    run = invent(seeds=40, held_out=3, rounds=1, until="teacher_answers")
    pool = list(run.step("round_0/02_classified", "").read(Instruction))
    found = [Difficulty(i.id, 0.5 + n / 100, "ifd" if n < 20 else "loss", votes=0) for n, i in enumerate(pool)]
    select_again(run, found, delta_ifd=0.595, delta_loss=0.855)
    _, planned = round_table(run, 1)
    with serving(tmp_path) as url:
        asker = Asker(url)
        text, given = asker.page("/run/run/mix"), asker.page("/run/run/mix?delta=0.6")
    assert 'name="delta" value="" step="any" placeholder="ifd 0.595, loss 0.855"' in text
    counted = hard_seeds(text)
    assert counted == {row["task"]: row["hard"] for row in planned}
    assert sum(counted.values()) == 10 + 4
    assert sum(hard_seeds(given).values()) == 9 + 20


def hard_seeds(text: str) -> dict[str, int]:
    """The planner's table: hard seeds by task."""
    row = r"<tr><th[^>]*>([^<]+)</th><td>[^<]*</td><td>[^<]*</td><td>(\d+)</td>"
    return {task: int(n) for task, n in re.findall(row, text.partition("The plan by task")[2])}


def test_an_instructions_page_has_answers_judgings_and_what_the_judge_wrote(reader, finished_run: RunDir):
    text = reader.page(f"/run/run/instruction/{first_id(finished_run)}")
    for said in ("Question 0", "teacher says", "student_0 says", "student first", "teacher first"):
        assert said in text


def test_a_run_at_work_shows_its_stage_with_rate_cost_and_time_left(tmp_path: Path):
    Invented(tmp_path / "run", seeds=40, held_out=12, rounds=1, until="student_answers").build()
    clock = iter([0.0, 10.0])
    file = ProgressFile(tmp_path / "run", lambda: next(clock))
    file.start("round_0/06_verdicts", None)
    file.update(done=20, total=80, calls=20, cost_usd=0.5, completion_tokens=900)
    with serving(tmp_path) as url:
        asker = Asker(url)
        text = asker.page("/run/run")
        assert "Now: round 0 · verdicts" in text
        assert "20 of about 80; 2 a second; about 30 s left in this stage" in text
        assert 'data-every-ms="2000"' in text
        assert "working" in asker.page("/")
        assert "No seed has a difficulty yet" in asker.page("/run/run/difficulty")


def test_pairs_on_which_the_judge_contradicts_the_check_are_listed(invent, tmp_path: Path):
    run = invent(seeds=40, held_out=12, rounds=1, until="hard")
    pool = list(run.step("round_0/02_classified", "").read(Instruction))

    def votes(i: Instruction, checked: tuple[float, float], judged: tuple[float, float]) -> list[Verdict]:
        both = [(checked, "verified"), (judged, "text")]
        orders = ("student_first", "teacher_first")
        return [Verdict(i.id, order, *scores, method=method) for scores, method in both for order in orders]

    wrong, right, tied, half = (votes(i, (1, 10), scores) for i, scores in
                                zip(pool, ((9, 4), (2, 8), (9, 4), (9, 4)), strict=False))  # fmt: skip
    tied = [replace(v, student_score=10.0) if v.method == "verified" else v for v in tied]  # both answers pass
    half[-1] = replace(half[-1], student_score=None, teacher_score=None, problem="no_rating")
    run.step("round_0/06_verdicts", "").write(Verdict, [*wrong, *right, *tied, *half])
    with serving(tmp_path) as url:
        text = Asker(url).page("/run/run/judge")
    section = text.partition("judge against check")[2].partition("<h2>")[0]
    assert "prefers the answer that fails the check in 1 of 2 pairs" in section
    assert re.findall(r"instruction/(\w+)", section) == [pool[0].id]
    assert "<td>teacher</td><td>−5</td>" in section


def test_order_flips_are_told_of_pairs_that_the_judge_decided(invent, tmp_path: Path):
    run = invent(seeds=40, held_out=12, rounds=1)
    pool, tests = (list(run.step(place, "").read(Instruction)) for place in
                   ("round_0/02_classified", "round_0/08_held_out"))  # fmt: skip

    def verdicts(rows: list[Instruction], student: str) -> list[Verdict]:
        told = {"text": [((9, 4), (4, 8)), ((4, 8), (5, 8)), ((4, 8), (None, None))],
                "identical": [((5, 5), (5, 5))] * 4, "verified": [((1, 10), (1, 10))]}  # fmt: skip
        pairs = [(method, scores) for method, found in told.items() for scores in found]
        orders = ("student_first", "teacher_first")
        return [Verdict(i.id, order, *score, method=method, student=student)
                for i, (method, scores) in zip(rows, pairs, strict=False)
                for order, score in zip(orders, scores, strict=True)]  # fmt: skip

    run.step("round_0/06_verdicts", "").write(Verdict, verdicts(pool, "student_0"))
    run.step("round_1/06_evaluation", "").write(Verdict, verdicts(tests, "student_1"), "verdicts")
    with serving(tmp_path) as url:
        text = Asker(url).page("/run/run/judge")
    for title, row in (("Selection", pool[0]), ("round 1 · evaluation, verdicts", tests[0])):
        section = text.partition(f"{title}: the order changes the winner")[2].partition("<h2>")[0]
        assert "In 1 of 2 judged pairs (50 %). Widest first:" in section
        assert re.findall(r"instruction/(\w+)", section) == [row.id]
        assert "<td>−0.5</td><td>9</td>" in section


def test_a_second_judge_is_shown_beside_the_verdicts_that_it_was_asked_with_alone(tmp_path: Path):
    run = Invented(tmp_path / "run", seeds=6, held_out=3, rounds=1).build()
    keep_second(run, list(run.step("round_0/06_verdicts", "").read(Verdict)), verdicts_mark(run) or "")
    with serving(tmp_path) as url:
        asker = Asker(url)
        assert "Widest apart of" in asker.page("/run/run/judge")
        run.step("round_0/06_verdicts", "of another student").finish(Receipt("verdicts"))
        text = asker.page("/run/run/judge")
    assert "A second judge's verdicts are left out" in text.replace("&#x27;", "'")
    assert "Widest apart of" not in text


def test_two_equal_runs_differ_in_nothing(reader):
    assert reader.page("/compare?a=run&b=run").count("The same in both.") == 6


def test_two_runs_are_compared_by_their_rows_with_the_first_that_differ(tmp_path: Path):
    one = Invented(tmp_path / "one", seeds=40, held_out=12, rounds=1).build()
    shutil.copytree(one.root, tmp_path / "two")
    step = RunDir(tmp_path / "two").step("round_0/03_teacher_answers", "")
    first, *others = list(step.read(Answer))
    step.write(Answer, [replace(first, text=ATTACKS), *others])
    with serving(tmp_path) as url:
        text = Asker(url).page("/compare?a=one&b=two")
    assert "<td>40</td><td>40</td><td>0</td><td>0</td><td>1</td>" in re.sub(r' class="[^"]*"', "", text)
    assert "First differing rows" in text
    assert f"/run/two/instruction/{first.instruction_id}" in text
    assert "teacher says Question 0" in text
    assert scanned(text).bad == []


def test_a_missing_run_page_or_instruction_is_told_in_words(reader):
    for path in ("/run/nobody", "/run/run/nothing", "/run/run/instruction/0000", "/nowhere"):
        status, _, text = reader.ask(path)
        assert status == 404
        assert "there is no" in text or "no row of this run" in text or "Not Found" in text


def test_a_run_is_not_said_to_lack_steps_that_its_recipe_does_not_ask_for(reader):
    assert "benchmarks" not in reader.page("/run/run")


def test_a_run_that_was_called_elsewhere_is_as_far_as_it_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    home, here = tmp_path / "home", tmp_path / "here"
    home.mkdir()
    here.mkdir()
    monkeypatch.chdir(home)
    Path("pool.jsonl").write_text('{"instruction": "What is sand?"}\n', encoding="utf-8")
    models = {"teacher": {"kind": "scripted"}, "student": {"kind": "local", "model": "base"}}
    distil(parse_recipe({"models": models, "seeds": {"source": "pool.jsonl"}}), "runs/made", until="seeds")
    monkeypatch.chdir(here)
    with serving(home / "runs") as url:
        assert ">stale<" not in Asker(url).page("/run/made")
        # Without its note of where that was, the files are looked for from here.
        (home / "runs/made/.called_from").unlink()
        assert ">stale<" in Asker(url).page("/run/made")
    assert Path.cwd() == here
