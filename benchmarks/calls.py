"""Rows a second, CPU and memory of chat calls: tapir's engine beside a bare loop and other tools.

    python benchmarks/calls.py                       # everything, 10,000 calls each
    python benchmarks/calls.py --calls 2000 --only aiohttp tapir

A fake server in its own process answers 200 tokens after 0.1 s. Each tool runs in its own virtual environment, made
on first use under --envs. Prints a Markdown table with commit and hardware.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from harness import Server, contender, heading, make_env

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Tool:
    name: str
    script: str
    packages: tuple[str, ...] = ()
    """What its own environment gets; none: this environment."""


TOOLS = (
    Tool("aiohttp", "bare_aiohttp.py"),
    Tool("tapir", "tapir_engine.py"),
    Tool("openai", "openai_sdk.py", ("openai==3.52.0",)),
    Tool("curator", "curator_llm.py", ("bespokelabs-curator==0.1.31",)),
    Tool("distilabel", "distilabel_pipeline.py", ("distilabel[openai]==1.5.3", "requests")),
)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--calls", type=int, default=10_000)
    options.add_argument("--rival-calls", type=int, help="fewer calls for the slower tools")
    options.add_argument("--concurrency", type=int, nargs="+", default=[64, 256])
    options.add_argument("--only", nargs="+", choices=[tool.name for tool in TOOLS])
    options.add_argument("--latency", type=float, default=0.1)
    options.add_argument("--envs", type=Path, default=Path(tempfile.gettempdir()) / "tapir-bench-envs")
    chosen = options.parse_args()
    print(heading("Calls", f"{chosen.calls:,} calls of 200-token replies, server latency {chosen.latency} s"))
    for concurrency in chosen.concurrency:
        print(f"\n| concurrency {concurrency} | calls | rows/s | share of bare | CPU ms a row | peak MB |")
        print("|---|---:|---:|---:|---:|---:|", flush=True)
        bare: float | None = None
        for tool in TOOLS:
            if chosen.only and tool.name not in chosen.only:
                continue
            calls = chosen.rival_calls if tool.packages and chosen.rival_calls else chosen.calls
            results = measure(tool, calls, concurrency, chosen.latency, chosen.envs)
            rate = results["rows"] / results["seconds"]
            bare = bare or rate
            cpu_ms = 1000 * results["cpu_s"] / calls
            share = f"{rate / bare:.2f}"
            print(
                f"| {tool.name} | {calls:,} | {rate:.0f} | {share} | {cpu_ms:.2f} | {results['peak_mb']:.0f} |",
                flush=True,
            )
            if "replay_s" in results:
                print(f"| {tool.name}, warm replay | {calls:,} | {calls / results['replay_s']:.0f} | | | |", flush=True)


def measure(tool: Tool, calls: int, concurrency: int, latency_s: float, envs: Path) -> dict[str, float]:
    python = make_env(envs / tool.name, tool.packages) if tool.packages else Path(sys.executable)
    with Server("--latency-s", str(latency_s), "--fixed-tokens", "200") as server:
        results = contender(python, HERE / "contenders" / tool.script, server.url, calls, concurrency)
    if results["rows"] != calls:
        raise SystemExit(f"{tool.name} returned {results['rows']} of {calls} rows; its figures would mean nothing")
    return results


if __name__ == "__main__":
    main()
