"""Prints the scalars of a directory of event files as TensorBoard's own reader sees them: tag, step, value.

usage: tensorboard_read.py DIRECTORY      (needs the package `tensorboard`; called by `tensorboard.rs`)
"""

import sys

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def main(directory: str) -> None:
    accumulator = EventAccumulator(directory, size_guidance={"scalars": 0})
    accumulator.Reload()
    for tag in sorted(accumulator.Tags()["scalars"]):
        for event in accumulator.Scalars(tag):
            print(tag, event.step, repr(event.value), sep="\t")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: tensorboard_read.py DIRECTORY")
    main(sys.argv[1])
