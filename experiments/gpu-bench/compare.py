"""Times GhostNet 1.0x here and in PyTorch with timm, turn by turn on the same card, and prints the ratios.

    python compare.py --binary ../../target/release/ghostnet

needs `pip install torch timm` in a build for the card. Every program of PyTorch's keeps its process; ours is started for each
turn. One turn of each warms up and does not count: kernels are tuned and compiled in it. Then, in each round, each program works
alone for so many seconds after calls that do not count. A figure is the median of the rounds' medians, beside the lowest and the
highest of them.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time

# Steps between two looks at the clock: PyTorch is not made to wait for the card after each.
STEPS_AT_A_TIME = 5


def timed(run, wait, seconds, at_a_time):
    """Median milliseconds of a call of `run`, called for about so many seconds, after some calls to warm up."""
    for _ in range(2 * at_a_time):
        run()
    wait()
    times, start = [], time.perf_counter()
    while len(times) < 5 or time.perf_counter() - start < seconds:
        at = time.perf_counter()
        for _ in range(at_a_time):
            run()
        wait()
        times.append((time.perf_counter() - at) * 1e3 / at_a_time)
    return statistics.median(times)


# What PyTorch is asked for: compiled or not, layout, number format, whether f32 products may be rounded to TF32.
PROGRAMS = {
    "PyTorch eager, f32": {"layout": "contiguous"},
    "PyTorch eager, f32, channels-last": {"layout": "channels_last"},
    "PyTorch eager, f32 with TF32, channels-last": {"layout": "channels_last", "tf32": True},
    "PyTorch eager, AMP, channels-last": {"layout": "channels_last", "tf32": True, "amp": True},
    "torch.compile, f32": {"layout": "contiguous", "compile": True},
    "torch.compile, f32, channels-last": {"layout": "channels_last", "compile": True},
    "torch.compile, AMP, channels-last": {"layout": "channels_last", "compile": True, "tf32": True, "amp": True},
}


# What ours is asked for: arguments, environment, and the works that it makes a difference in.
MIXED = ["--set", "train.precision=mixed"]
OURS = {
    "ours": {},
    "ours, mixed": {"arguments": MIXED, "works": ["step"]},
    "ours, own kernels": {"environment": {"GHOSTNET_GPU_KERNELS": "on"}, "works": ["step"]},
    "ours, own kernels, mixed": {"arguments": MIXED, "environment": {"GHOSTNET_GPU_KERNELS": "on"}, "works": ["step"]},
}


def torch_work(args):
    import timm
    import torch

    program = PROGRAMS[args.program]
    device = torch.device(args.torch_device)
    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = program.get("tf32", False)
    layout = torch.channels_last if program["layout"] == "channels_last" else torch.contiguous_format
    model = timm.create_model("ghostnet_100").to(device, memory_format=layout)
    images = torch.randn(args.batch_size, 3, args.image_size, args.image_size).to(device, memory_format=layout)
    call = torch.compile(model) if program.get("compile") else model
    amp = program.get("amp", False)
    # On a CPU, where the script's logic is checked, float16 has no kernels.
    dtype = torch.bfloat16 if device.type == "cpu" else torch.float16
    accelerator = {"cuda": torch.cuda, "mps": torch.mps, "xpu": getattr(torch, "xpu", None)}.get(device.type)
    wait = accelerator.synchronize if accelerator else lambda: None
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    if args.work == "infer":
        model.eval()

        def infer():
            # To the scores in memory, as ours.
            with torch.inference_mode(), torch.autocast(device.type, dtype, enabled=amp):
                call(images).float().cpu()

        return infer, wait, 1, name
    targets = torch.zeros(args.batch_size, dtype=torch.long, device=device)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9, weight_decay=4e-5, nesterov=True)
    scaler = torch.amp.GradScaler(device.type, enabled=amp and dtype == torch.float16)

    def step():
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, dtype, enabled=amp):
            loss = torch.nn.functional.cross_entropy(call(images), targets)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()

    return step, wait, STEPS_AT_A_TIME, name


def worker(args):
    run, wait, at_a_time, name = torch_work(args)
    run()  # compiles
    wait()
    print(json.dumps({"device": name}), flush=True)
    for _ in sys.stdin:
        print(json.dumps({"median_ms": timed(run, wait, args.seconds, at_a_time), "device": name}), flush=True)


class Worker:
    """A program of PyTorch's, which waits for its turn."""

    def __init__(self, args, work, program):
        command = [sys.executable, os.path.abspath(__file__), "--worker", "--work", work["work"], "--program", program]
        command += ["--image-size", str(work["image_size"]), "--batch-size", str(work["batch_size"])]
        command += ["--torch-device", args.torch_device, "--seconds", str(args.seconds)]
        self.log = tempfile.NamedTemporaryFile("w+", suffix=".log", delete=False)
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=self.log, text=True)
        ready = self.process.stdout.readline()
        self.device = json.loads(ready)["device"] if ready else None
        if not ready:
            print(f"left out: {program} did not start, see {self.log.name}", file=sys.stderr)

    def turn(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Ours:
    """Our program, started for each turn."""

    def __init__(self, args, work, program):
        self.environment = os.environ | program.get("environment", {})
        self.command = [args.binary, "bench", work["work"], "--device", args.device, "--format", "json"]
        for key in ["image_size", "batch_size"]:
            self.command += ["--" + key.replace("_", "-"), str(work[key])]
        self.command += ["--seconds", str(args.seconds)] + program.get("arguments", [])

    def turn(self):
        done = subprocess.run(self.command, capture_output=True, text=True, env=self.environment)
        if done.returncode != 0:
            sys.exit(done.stderr)
        return json.loads(done.stdout)

    def close(self):
        pass


def is_same_card(ours, theirs):
    """Whether two names, as Vulkan or Metal and as PyTorch give them, are of one card."""
    ours = ours.removeprefix("wgpu: ").lower()
    return theirs.lower() in ours or ours.split(" (")[0] in theirs.lower()


def compare(args, work):
    ours = [name for name in args.ours if work["work"] in OURS[name].get("works", [work["work"]])]
    if not ours:
        return {"work": work["work"], "rounds": {}}
    programs = {name: Ours(args, work, OURS[name]) for name in ours}
    workers = {name: Worker(args, work, name) for name in args.programs}
    programs |= {name: worker for name, worker in workers.items() if worker.device}
    results, cards = {name: [] for name in programs}, {}
    for round in range(-1, args.rounds):
        for name, program in programs.items():
            turn = program.turn()
            cards[name] = turn["device"]
            if round >= 0:
                results[name].append(turn)
        different = {cards[name] for name in workers if name in cards and not is_same_card(cards[ours[0]], cards[name])}
        if different and not args.different_cards:
            sys.exit(f"ours ran on `{cards[ours[0]]}`, PyTorch on {different}: name ours with `--device wgpu:N`, "
                     "PyTorch's with `--torch-device cuda:N`; `ghostnet devices` lists ours")
    for program in programs.values():
        program.close()
    medians = {name: [turn["median_ms"] for turn in turns] for name, turns in results.items()}
    title = f"{work['work']}, {work['image_size']} px, batch {work['batch_size']}, {cards[ours[0]].removeprefix('wgpu: ')}"
    heads = "".join(f" over {name} |" for name in ours)
    print(f"\n## {title}\n\n| program | ms | from .. to |{heads}\n|---|---|---|{'---|' * len(ours)}")
    for name, times in medians.items():
        median = statistics.median(times)
        shares = "".join(f" {median / statistics.median(medians[of]):.2f} |" for of in ours)
        print(f"| {name} | {median:.2f} | {min(times):.2f} .. {max(times):.2f} |{shares}", flush=True)
    return {"work": title, "rounds": results}


WORKS = {
    "step-224": {"work": "step", "image_size": 224, "batch_size": 256},
    "step-64": {"work": "step", "image_size": 64, "batch_size": 256},
    "infer-224": {"work": "infer", "image_size": 224, "batch_size": 128},
    "infer-1": {"work": "infer", "image_size": 224, "batch_size": 1},
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default="../../target/release/ghostnet")
    parser.add_argument("--device", default="wgpu", help="ours: `wgpu` or `wgpu:N`")
    parser.add_argument("--torch-device", default="cuda", help="PyTorch's: `cuda`, `cuda:N`, `mps`, `xpu`")
    parser.add_argument("--different-cards", action="store_true", help="do not stop if the two are on different cards")
    parser.add_argument("--only", nargs="*", choices=WORKS, default=list(WORKS))
    parser.add_argument("--ours", nargs="+", choices=OURS, default=list(OURS))
    parser.add_argument("--programs", nargs="*", choices=PROGRAMS, default=list(PROGRAMS))
    parser.add_argument("--batch-size", type=int, help="in place of those of the works")
    parser.add_argument("--image-size", type=int, help="in place of those of the works")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--output", default="compare.json")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    for name in ["work", "program"]:
        parser.add_argument("--" + name, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        return worker(args)
    sizes = {"batch_size": args.batch_size, "image_size": args.image_size}
    results = []
    for name in args.only:
        results.append(compare(args, WORKS[name] | {key: size for key, size in sizes.items() if size}))
        with open(args.output, "w") as file:
            json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()
