"""Makes pysmpc/datasets/sample from a folder of the full MNIST files: python tools/make_sample.py FOLDER"""

import sys
from pathlib import Path

from pysmpc.datasets import idx
from pysmpc.datasets.mnist import SAMPLE

ITEMS = 640


def main(folder: Path) -> None:
    for name in ("train", "t10k"):
        images, labels = idx.read_split(folder, name)
        idx.write(SAMPLE / f"{name}-images-idx3-ubyte.gz", images[:ITEMS])
        idx.write(SAMPLE / f"{name}-labels-idx1-ubyte.gz", labels[:ITEMS])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
