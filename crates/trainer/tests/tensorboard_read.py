"""Prints the scalars of a directory of event files as TensorBoard's own reader sees them: tag, step, value.

    TENSORBOARD_SAMPLE=/tmp/board cargo test -p trainer --lib a_sample_for_the_reader -- --ignored
    pip install tensorboard
    python crates/trainer/tests/tensorboard_read.py /tmp/board

The sample is a run that was stopped after step 7 and went on from step 4, so each `train/` tag must have the steps 1 to 6
once each, and the `val/` tags, measured at step 4, one point.
"""

import sys

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def main(directory: str) -> None:
    accumulator = EventAccumulator(directory, size_guidance={"scalars": 0})
    accumulator.Reload()
    for tag in sorted(accumulator.Tags()["scalars"]):
        for event in accumulator.Scalars(tag):
            print(tag, event.step, f"{event.value:g}", sep="\t")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: tensorboard_read.py DIRECTORY")
    main(sys.argv[1])
