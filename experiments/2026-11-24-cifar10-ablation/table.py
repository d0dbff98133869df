"""The tables of the README from the runs of `run.sh` and the lines of `pytorch_twin.py`: `table.py OUT [TWIN.jsonl]`."""

import json
import pathlib
import statistics
import sys


def final(run):
    """Top-1 of the last step: of the average of the weights if there is one."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    evals = [line for line in lines if line["event"] == "eval"]
    last = max((line["step"] for line in evals), default=0)
    found = {line["split"]: line["top1"] for line in evals if line["step"] == last}
    return last, found


def show(name, values):
    spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    print(f"| {name} | {', '.join(f'{value:.2f}' for value in values)} | {statistics.mean(values):.2f}{spread} |")


def main():
    out = pathlib.Path(sys.argv[1])
    print("| row | top-1 of each seed, % | mean ± std |\n|---|---|---|")
    for name in ("plain", "smoothing", "mixup", "cutmix", "rand_augment", "ema"):
        found = [final(run) for run in sorted(out.glob(f"{name}-[0-9]"))]
        done = [splits for step, splits in found if step == 1560]
        if done:
            show(name, [100 * splits["val"] for splits in done])
            if "val_ema" in done[0]:
                show(f"{name}, the average", [100 * splits["val_ema"] for splits in done])
    if len(sys.argv) > 2:
        lines = [json.loads(line) for line in pathlib.Path(sys.argv[2]).read_text().splitlines()]
        epochs = max(line["epoch"] for line in lines)
        show("PyTorch with timm, smoothing", [100 * line["top1"] for line in lines if line["epoch"] == epochs])


main()
