"""What a run says before it trains."""

from __future__ import annotations

from pathlib import Path

from whole_run import prepare

from tapir.progress import Progress
from tapir.steps.common import tell_of_idle_processes
from tapir.wiring import load_recipe, open_session


def test_a_training_that_keeps_few_of_its_processes_busy_says_so(tmp_path: Path):
    class Hears(Progress):
        said: list[str]

        def say(self, line: str) -> None:
            self.said.append(line)

    hears = Hears()
    sets = [f"ledger.path={tmp_path / 'ledger.sqlite'}", "executor=ray", "train.launcher=ray"]
    for workers, told in [(2, 0), (64, 1)]:
        hears.said = []
        recipe = load_recipe(prepare(tmp_path), [*sets, f"ray.training_workers={workers}"])
        with open_session(recipe, tmp_path / f"run-{workers}", progress=hears) as session:
            tell_of_idle_processes(session)
        assert len(hears.said) == told
