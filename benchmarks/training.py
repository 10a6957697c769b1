"""Training speed and memory: ours beside a plain `SFTTrainer` script and LLaMA-Factory, same settings and examples.

    python benchmarks/training.py --student smollm2-135m-instruct [--examples 512] [--repeats 5] [--methods lora,full]
    python benchmarks/training.py --student smollm2-135m-instruct --keep FILE  # may be stopped and started again

Examples are instructions of the shipped pool, each once: with the teacher's answer where the recording has one, else
with the reference answer. Every measurement is a process of its own (for its peak memory); contenders take turns, and
medians are printed. Time counts from the first step to the last: loading and saving are not training.

Packed rows have as many tokens as the unpacked micro-batches on average, padding included. How much of these is
padding, and so what packing can save, depends on how many examples are taken at once: `--micro-batch`, by default that
of `transformers`, which on this pool comes to about a thousand tokens.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness import heading, make_env, stamp

from tapir.config import Model, Seeds, Train
from tapir.models.ledger_files import read_recording
from tapir.models.resolve import resolve
from tapir.stages.seeds import read_source
from tapir.training.export import export_dataset
from tapir.types import Example, Message
from tapir.wiring import load_recipe, recording_files

PLAIN, OURS, PACKED, FACTORY = "plain SFTTrainer", "tapir", "tapir, packed", "LLaMA-Factory"
CONTENDERS = (PLAIN, OURS, PACKED)
FACTORY_PACKAGES = ("torch==2.13.0", "llamafactory==0.9.5")
BATCH, MAX_TOKENS = 32, 256


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--student", required=True, help="A folder of weights or a catalogue name.")
    options.add_argument("--examples", type=int, default=512)
    options.add_argument("--repeats", type=int, default=5)
    options.add_argument("--methods", default="lora,full")
    options.add_argument(
        "--micro-batch",
        type=int,
        default=8,
        choices=(1, 2, 4, 8, 16, 32),
        help=f"Examples at once; a step has {BATCH}.",
    )
    options.add_argument("--envs", type=Path, default=Path(".venvs"), help="Where LLaMA-Factory is installed.")
    options.add_argument("--without-factory", action="store_true", help="Leave LLaMA-Factory out.")
    options.add_argument("--keep", type=Path, help="Keep each measurement in this file, and do not make it again.")
    options.add_argument("--only", choices=CONTENDERS, help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.only:
        print(json.dumps(measure(chosen.only, chosen.methods, Path(chosen.student), chosen)))
        return
    chosen.student, chosen.earlier = resolve(Model(kind="local", model=chosen.student)), Counter[str]()
    factory, reason = (None, "left out") if chosen.without_factory else factory_python(chosen.envs)
    at_once = f"{chosen.micro_batch} at once, batch {BATCH}"
    what = f"{chosen.examples} examples, {at_once}, float32, medians of {chosen.repeats}"
    print(heading(f"Training {chosen.student.name}", what))
    print("\n| method | contender | trained tokens/s | all tokens/s | peak memory (MiB) | times the plain script |")
    print("|---|---|---:|---:|---:|---:|")
    for method in chosen.methods.split(","):
        found, told = compare(method, chosen, factory)
        print_rows(method, found)
        reason = reason or told
    account = counts(chosen.student, chosen)
    padding = 1 - account["tokens"] / account["padded"]
    print(f"\nAn unpacked micro-batch has {row_tokens(account, chosen)} tokens on average; {padding:.0%} are padding.")
    if reason:
        print(f"{FACTORY}: {reason}.")
    for made, count in chosen.earlier.items():
        print(f"{count} of the measurements are from {chosen.keep}: {made}.")


def compare(method: str, chosen: argparse.Namespace, factory: Path | None) -> tuple[dict[str, Any], str]:
    """Medians by contender, and why LLaMA-Factory is not among them, if it is not."""
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in CONTENDERS}
    told = ""
    for repeat in range(chosen.repeats):
        for name in CONTENDERS:
            runs[name].append(kept(name, method, repeat, chosen, lambda name=name: child(name, method, chosen)))
        if factory is not None and not told:
            try:
                one = kept(FACTORY, method, repeat, chosen, lambda: by_factory(factory, method, chosen))
                runs.setdefault(FACTORY, []).append(one)
            except DoesNotRun as error:
                told = str(error)
    return {name: {k: statistics.median(r[k] for r in rows) for k in rows[0]} for name, rows in runs.items()}, told


def kept(
    name: str, method: str, repeat: int, chosen: argparse.Namespace, measured: Callable[[], dict[str, float]]
) -> dict[str, float]:
    """The measurement that `--keep` holds, or a new one, which it holds from now on."""
    what = {"student": chosen.student.name, "examples": chosen.examples, "micro_batch": chosen.micro_batch}
    what |= {"method": method, "contender": name, "repeat": repeat}
    lines = chosen.keep.read_text().splitlines() if chosen.keep and chosen.keep.exists() else []
    for line in map(json.loads, lines):
        if line["what"] == what:
            chosen.earlier[line["made"]] += 1
            return line["found"]
    found = measured()
    if chosen.keep:
        with chosen.keep.open("a") as file:
            file.write(json.dumps({"what": what, "made": stamp(), "found": found}) + "\n")
    return found


def print_rows(method: str, rows: dict[str, dict[str, float]]) -> None:
    base = rows[PLAIN]["trained"] / rows[PLAIN]["seconds"]
    for name, row in rows.items():
        rate, every = row["trained"] / row["seconds"], row["tokens"] / row["seconds"]
        print(f"| {method} | {name} | {rate:.1f} | {every:.1f} | {row['memory_mib']:.0f} | {rate / base:.2f} |")


def child(name: str, method: str, chosen: argparse.Namespace) -> dict[str, float]:
    line = [sys.executable, __file__, "--only", name, "--methods", method]
    line += ["--student", str(chosen.student), "--examples", str(chosen.examples)]
    line += ["--micro-batch", str(chosen.micro_batch)]
    done = subprocess.run(line, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def factory_python(envs: Path) -> tuple[Path | None, str]:
    """The Python of an environment with LLaMA-Factory, or why there is none.

    The index's torchvision and torchaudio are built for CUDA and do not load beside the CPU build of torch.
    LLaMA-Factory does without the first and imports the second, which training on text never calls: an empty module
    stands for it.
    """
    try:
        python = make_env(envs / "llamafactory", FACTORY_PACKAGES)
    except subprocess.CalledProcessError as error:
        return None, f"does not install ({' '.join(FACTORY_PACKAGES)}: pip ended with {error.returncode})"
    subprocess.run([python, "-m", "pip", "uninstall", "-q", "-y", "torchvision", "torchaudio"], check=True)
    ask = [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    packages = Path(subprocess.run(ask, check=True, capture_output=True, text=True).stdout.strip())
    (packages / "torchaudio.py").write_text("")
    return python, ""


class DoesNotRun(Exception):
    """LLaMA-Factory ended with an error; says which."""


def by_factory(python: Path, method: str, chosen: argparse.Namespace) -> dict[str, float]:
    script = Path(__file__).parent / "contenders" / "llamafactory_train.py"
    settings = {"method": method, "max_tokens": MAX_TOKENS, "micro_batch": chosen.micro_batch, "batch": BATCH}
    settings["system"] = system_turn(chosen.student)
    with tempfile.TemporaryDirectory() as folder:
        data, out, student = Path(folder) / "data", Path(folder) / "out", Path(folder) / "student"
        export_dataset(examples(chosen.examples), data, name="bench")
        save_as_float32(chosen.student, student)
        line = [python, script, str(student), str(data), str(out), json.dumps(settings)]
        done = subprocess.run(line, capture_output=True, text=True)
    if done.returncode:
        last = next((text for text in reversed(done.stderr.splitlines()) if text.strip()), "no message")
        raise DoesNotRun(f"does not run on this student ({last.strip()[:300]})")
    account = {name: value for name, value in counts(chosen.student, chosen).items() if name != "padded"}
    found = json.loads(done.stdout.splitlines()[-1])
    # Its ChatML ends an answer with a line break, a token more; anything else would not be the same work.
    if (seen := found.pop("tokens")) - account["tokens"] not in (0, chosen.examples):
        raise SystemExit(f"{FACTORY} saw {seen} tokens and the others {account['tokens']}: no comparison")
    return {**found, **account}


def system_turn(student: Path) -> str:
    """What the student's ChatML template says by itself before the first turn, which LLaMA-Factory's does not."""
    from transformers import AutoTokenizer

    turns = [{"role": "user", "content": "?"}]
    text = str(AutoTokenizer.from_pretrained(student).apply_chat_template(turns, tokenize=False))
    found = re.match(r"<\|im_start\|>system\n(.*?)<\|im_end\|>", text, re.DOTALL)
    return found[1] if found else ""


def save_as_float32(student: Path, to: Path) -> None:
    """A copy for LLaMA-Factory, which trains in the precision of the file: bfloat16, ten times slower on a CPU."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    AutoModelForCausalLM.from_pretrained(student, dtype=torch.float32).save_pretrained(to)
    AutoTokenizer.from_pretrained(student).save_pretrained(to)


def examples(count: int) -> list[Example]:
    """Instructions of the shipped pool and their answers, in an order of our own that mixes tasks."""
    recipe = load_recipe("quickstart")
    recorded: dict[tuple[Message, ...], str] = {}
    for entry in (entry for path in recording_files(recipe) for entry in read_recording(path)):
        if entry.stage == "teacher_answers":
            recorded.setdefault(entry.request.messages, entry.reply.text)
    rows = [row for split in ("pool", "held_out") for _, row in read_source(Seeds(source="builtin"), split)]
    if count > len(rows):
        raise SystemExit(f"the shipped pool has {len(rows)} instructions; ask for at most so many --examples")
    random.Random(17).shuffle(rows)
    made: list[Example] = []
    for number, row in enumerate(rows[:count]):
        asked = (Message("user", row["instruction"]),)
        answer = Message("assistant", recorded.get(asked) or str(row["reference"]))
        made.append(Example((*asked, answer), str(number), row["task"], hard=row["level"] == "hard"))
    return made


def measure(name: str, method: str, student: Path, chosen: argparse.Namespace) -> dict[str, Any]:
    account, rows = counts(student, chosen), examples(chosen.examples)
    with tempfile.TemporaryDirectory() as folder:
        if name == PLAIN:
            seconds = plain(method, student, rows, Path(folder), chosen.micro_batch)
        else:
            packed = row_tokens(account, chosen) if name == PACKED else None
            seconds = ours(method, student, rows, Path(folder), chosen.micro_batch, packed)
    del account["padded"]
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": seconds, "memory_mib": memory, **account}


def row_tokens(account: dict[str, int], chosen: argparse.Namespace) -> int:
    """Tokens of an unpacked micro-batch on average, padding included; as many has a packed row."""
    return account["padded"] // -(-chosen.examples // chosen.micro_batch)


def counts(student: Path, chosen: argparse.Namespace) -> dict[str, int]:
    """Tokens of the examples, which all contenders train, and with the padding of unpacked micro-batches."""
    from tapir.models.chat_template import ChatFormat, load_tokenizer
    from tapir.training.encode import encode_all
    from tapir.training.pack import plan_round

    chat = ChatFormat(load_tokenizer(student))
    rows = encode_all(examples(chosen.examples), chat, max_tokens=MAX_TOKENS, too_long="drop").rows
    plan = plan_round(rows, batch=BATCH, micro_batch=chosen.micro_batch, epochs=1, order="shuffled", seed=1)
    padded = sum(len(micro) * max(len(rows[n]) for n in micro) for micro in plan.micro_batches if micro)
    return {"trained": sum(row.trained for row in rows), "tokens": sum(len(row) for row in rows), "padded": padded}


def ours(method: str, student: Path, rows: list[Example], folder: Path, micro_batch: int, packed: int | None) -> float:
    from tapir.training.result import StepLog
    from tapir.training.sft import train_round

    settings = Train(
        method=method,  # pyright: ignore[reportArgumentType]
        learning_rate=1e-4,
        epochs=1,
        batch=BATCH,
        micro_batch=micro_batch,
        max_tokens=packed or MAX_TOKENS,
        packing=packed is not None,
        precision="float32",
    )
    steps: list[StepLog] = []
    train_round(student, rows, folder / "out", settings, seed=1, progress=steps.append)
    return steps[-1].seconds


def plain(method: str, student: Path, rows: list[Example], folder: Path, micro_batch: int) -> float:
    """What one would write with TRL alone."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    class Clock(TrainerCallback):
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            self.started = time.monotonic()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            self.seconds = time.monotonic() - self.started

    turns = [[{"role": m.role, "content": m.content} for m in row.messages] for row in rows]
    clock = Clock()
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(student, dtype=torch.float32),
        args=SFTConfig(
            output_dir=str(folder),
            per_device_train_batch_size=micro_batch,
            gradient_accumulation_steps=BATCH // micro_batch,
            num_train_epochs=1,
            learning_rate=1e-4,
            lr_scheduler_type="cosine",
            warmup_steps=0.03,
            max_length=MAX_TOKENS,
            activation_checkpointing=False,
            bf16=False,
            use_cpu=True,
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        ),
        train_dataset=Dataset.from_list([{"prompt": t[:-1], "completion": t[-1:]} for t in turns]),
        processing_class=AutoTokenizer.from_pretrained(student),
        peft_config=LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
        if method == "lora"
        else None,
        callbacks=[clock],
    )
    trainer.train()
    return clock.seconds


if __name__ == "__main__":
    main()
