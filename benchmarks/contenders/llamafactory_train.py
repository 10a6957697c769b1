"""LLaMA-Factory on the benchmark's examples, in an environment of its own: prints seconds, peak memory, tokens seen.

    python llamafactory_train.py STUDENT DATA_FOLDER OUT_FOLDER SETTINGS_JSON

`DATA_FOLDER` is what `tapir export --to dataset` writes. Seconds are `transformers`' own train_runtime: loading and
saving are not in it.
"""

import json
import resource
import sys
from pathlib import Path


def main(student: str, data: str, out: str, settings: dict) -> None:
    from llamafactory.train.tuner import run_exp

    adapters = {"lora_rank": 16, "lora_alpha": 32, "lora_target": "all"} if settings["method"] == "lora" else {}
    run_exp(
        {
            "model_name_or_path": student,
            "stage": "sft",
            "do_train": True,
            "finetuning_type": settings["method"],
            **adapters,
            "dataset_dir": data,
            "dataset": "bench_alpaca",
            # As the student's own template, which the others use, makes it: ChatML with that system turn.
            "template": "chatml",
            "default_system": settings["system"],
            "cutoff_len": settings["max_tokens"],
            "per_device_train_batch_size": settings["micro_batch"],
            "gradient_accumulation_steps": settings["batch"] // settings["micro_batch"],
            "learning_rate": 1e-4,
            "lr_scheduler_type": "cosine",
            "warmup_ratio": 0.03,
            "num_train_epochs": 1,
            "gradient_checkpointing": False,
            "disable_gradient_checkpointing": True,
            "fp16": False,
            "bf16": False,
            "logging_steps": 1,
            "save_strategy": "no",
            "include_num_input_tokens_seen": "non_padding",
            "report_to": "none",
            "disable_tqdm": True,
            "output_dir": out,
            "overwrite_output_dir": True,
            "dataloader_num_workers": 0,
            "preprocessing_num_workers": 1,
        }
    )
    results = {
        "seconds": json.loads((Path(out) / "train_results.json").read_text())["train_runtime"],
        "memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "tokens": json.loads((Path(out) / "trainer_state.json").read_text())["num_input_tokens_seen"],
    }
    print(json.dumps(results))


if __name__ == "__main__":
    main(*sys.argv[1:4], json.loads(sys.argv[4]))
