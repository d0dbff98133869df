"""Times GhostNet here and elsewhere, turn by turn on the same machine, and prints the ratios.

    python compare_pytorch.py --binary ../../target/debug/ghostnet --rounds 5 --seconds 8
    python compare_pytorch.py --model ghostnetv2_100 --only step-224 infer-224 --programs ours "PyTorch eager, channels-last"

needs `pip install torch timm`, and for inference `onnx onnxruntime openvino` (each is left out if it is not there). Every
program keeps its process; in each round each of them works alone for so many seconds after a warm-up. A figure is the median
of the rounds' medians; the spread is from the lowest to the highest of them.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time


def timed(run, seconds):
    """Median milliseconds of `run`, called for about so many seconds, at least five times, after two calls to warm up."""
    run(), run()
    times, start = [], time.perf_counter()
    while len(times) < 5 or time.perf_counter() - start < seconds:
        at = time.perf_counter()
        run()
        times.append((time.perf_counter() - at) * 1e3)
    return statistics.median(times)


def torch_work(args):
    import timm
    import torch

    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    layout = torch.channels_last if args.layout == "channels_last" else torch.contiguous_format
    model = timm.create_model(args.model).to(memory_format=layout)
    images = torch.randn(args.batch_size, 3, args.image_size, args.image_size).to(memory_format=layout)
    if args.work == "infer":
        model.eval()
        call = torch.compile(model) if args.program == "compile" else model

        def run():
            with torch.inference_mode():
                call(images)

        return run
    targets = torch.zeros(args.batch_size, dtype=torch.long)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9, weight_decay=4e-5, nesterov=True)
    call = torch.compile(model) if args.program == "compile" else model

    def run():
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(call(images), targets).backward()
        optimizer.step()

    return run


def exported(args):
    """An ONNX file of the network, as PyTorch writes it."""
    import timm
    import torch

    path = os.path.join(tempfile.gettempdir(), f"{args.model}-{args.batch_size}-{args.image_size}.onnx")
    if not os.path.exists(path):
        model = timm.create_model(args.model).eval()
        images = torch.randn(args.batch_size, 3, args.image_size, args.image_size)
        torch.onnx.export(model, (images,), path + ".new", dynamo=False, opset_version=17)
        os.rename(path + ".new", path)
    return path


def onnxruntime_work(args):
    import numpy
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = args.threads
    session = onnxruntime.InferenceSession(exported(args), options, providers=["CPUExecutionProvider"])
    images = numpy.random.randn(args.batch_size, 3, args.image_size, args.image_size).astype("float32")
    name = session.get_inputs()[0].name
    return lambda: session.run(None, {name: images})


def openvino_work(args):
    import numpy
    import openvino

    core = openvino.Core()
    # Where the machine has bfloat16, OpenVINO computes in it unless told otherwise.
    hint = {"INFERENCE_NUM_THREADS": args.threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    compiled = core.compile_model(core.read_model(exported(args)), "CPU", hint)
    images = numpy.random.randn(args.batch_size, 3, args.image_size, args.image_size).astype("float32")
    request = compiled.create_infer_request()
    return lambda: request.infer([images])


def worker(args):
    make = {"onnxruntime": onnxruntime_work, "openvino": openvino_work}.get(args.program, torch_work)
    run = make(args)
    run()  # compiles
    print("ready", flush=True)
    for _ in sys.stdin:
        median = timed(run, args.seconds)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps({"median_ms": median, "peak_memory_bytes": peak}), flush=True)


class Worker:
    """A program of the others', which waits for its turn."""

    def __init__(self, args, work, program, layout):
        image_size, batch_size = work["image_size"], work["batch_size"]
        command = [sys.executable, __file__, "--worker", "--work", work["work"], "--program", program, "--layout", layout]
        command += ["--image-size", str(image_size), "--batch-size", str(batch_size)]
        command += ["--threads", str(args.threads), "--seconds", str(args.seconds), "--model", args.model]
        environment = dict(os.environ, OMP_NUM_THREADS=str(args.threads))
        log = open(os.path.join(tempfile.gettempdir(), f"compare-{program}.log"), "w")
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=log, text=True, env=environment)
        self.alive = self.process.stdout.readline().strip() == "ready"

    def turn(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Ours:
    """Our program, started for each turn."""

    alive = True

    def __init__(self, args, work, environment):
        self.command = [args.binary, "bench", work["work"], "--device", "cpu", "--format", "json"]
        # timm's `ghostnetv2_100` is GhostNetV2 at width 1.
        variant, width = args.model.split("_")
        self.command += ["--set", f"model.variant={variant}", "--width", str(int(width) / 100)]
        for key in ["image_size", "batch_size"]:
            self.command += ["--" + key.replace("_", "-"), str(work[key])]
        self.command += ["--threads", str(args.threads), "--seconds", str(args.seconds)]
        self.environment = dict(os.environ, **environment)

    def turn(self):
        return json.loads(subprocess.run(self.command, env=self.environment, check=True, capture_output=True).stdout)

    def close(self):
        pass


def compare(args, work):
    makers = {
        "ours": lambda: Ours(args, work, {}),
        "ours, AVX2": lambda: Ours(args, work, {"GHOSTNET_SIMD": "avx2"}),
        "ours, kernels off": lambda: Ours(args, work, {"GHOSTNET_KERNELS": "off"}),
        "PyTorch eager, channels-last": lambda: Worker(args, work, "eager", "channels_last"),
        "PyTorch eager, NCHW": lambda: Worker(args, work, "eager", "contiguous"),
        "torch.compile, channels-last": lambda: Worker(args, work, "compile", "channels_last"),
        "torch.compile, NCHW": lambda: Worker(args, work, "compile", "contiguous"),
    }
    if work["work"] == "infer":
        makers["onnxruntime"] = lambda: Worker(args, work, "onnxruntime", "contiguous")
        makers["OpenVINO"] = lambda: Worker(args, work, "openvino", "contiguous")
    programs = {name: make() for name, make in makers.items() if not args.programs or name in args.programs}
    programs = {name: program for name, program in programs.items() if program.alive}
    results = {name: [] for name in programs}
    for _ in range(args.rounds):
        for name, program in programs.items():
            results[name].append(program.turn())
    for program in programs.values():
        program.close()
    medians = {name: [turn["median_ms"] for turn in turns] for name, turns in results.items()}
    ours = statistics.median(medians["ours"])
    title = f"{args.model}, {work['work']}, {work['image_size']} px, batch {work['batch_size']}, {args.threads} threads"
    print(f"\n## {title}\n\n| program | ms | from .. to | ours is faster by | peak memory, MB |\n|---|---|---|---|---|")
    for name, times in medians.items():
        median, peak = statistics.median(times), max(turn["peak_memory_bytes"] for turn in results[name])
        print(f"| {name} | {median:.1f} | {min(times):.1f} .. {max(times):.1f} | {median / ours:.2f} | {peak / 1e6:.0f} |", flush=True)
    return {"work": title, "rounds": results}


# Of glibc's allocator: ask for huge pages, take all from the heap, never trim it.
HUGE_PAGES = "glibc.malloc.hugetlb=1:glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=1099511627776"

WORKS = {
    "step-224": {"work": "step", "image_size": 224, "batch_size": 32},
    "step-64": {"work": "step", "image_size": 64, "batch_size": 64},
    "step-32": {"work": "step", "image_size": 32, "batch_size": 64},
    "infer-224": {"work": "infer", "image_size": 224, "batch_size": 32},
    "infer-1": {"work": "infer", "image_size": 224, "batch_size": 1},
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default="target/debug/ghostnet")
    parser.add_argument("--only", nargs="*", choices=WORKS, default=list(WORKS))
    parser.add_argument("--model", default="ghostnet_100", help="timm's name")
    parser.add_argument("--programs", nargs="*", help="only these, by the names of the table; `ours` must be among them")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--huge-pages", action="store_true", help="huge pages and no memory given back, for all programs")
    parser.add_argument("--output", default="compare_pytorch.json")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    for name in ["work", "program", "layout"]:
        parser.add_argument("--" + name, help=argparse.SUPPRESS)
    for name in ["image-size", "batch-size"]:
        parser.add_argument("--" + name, type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        return worker(args)
    if args.huge_pages:
        os.environ["GLIBC_TUNABLES"] = HUGE_PAGES
    results = []
    for name in args.only:
        results.append(compare(args, WORKS[name]))
        with open(args.output, "w") as file:
            json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()
