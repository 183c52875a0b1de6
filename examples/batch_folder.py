"""Label every picture in a folder.  python examples/batch_folder.py [FOLDER [MODEL]]

Writes labels.csv. A thread reads the next pictures while the model runs.   needs: pip install 'apa-deploy[images]'
"""

import csv
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from own_network import digits, exported
from PIL import Image

import apa_deploy

BATCH = 32


def some_pictures(folder):
    """A folder to try it on: digits as PNG files, their names with the true label."""
    folder.mkdir(exist_ok=True)
    for number, (image, label) in enumerate(zip(*digits(), strict=True)):
        Image.fromarray(np.uint8(image[0] * 255)).save(folder / f"{number:03d}_{label}.png")
    return folder


def read(paths):
    """Pictures as the network wants them: N x 1 x 8 x 8, from 0 to 1."""
    pictures = [np.asarray(Image.open(path).convert("L").resize((8, 8))) for path in paths]
    return np.float32(pictures)[:, None] / 255


if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else some_pictures(Path("pictures"))
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".png", ".jpg", ".jpeg"))
    batches = [paths[i : i + BATCH] for i in range(0, len(paths), BATCH)]
    model = sys.argv[2] if len(sys.argv) > 2 else exported()
    with (
        apa_deploy.Session(model) as session,
        ThreadPoolExecutor(1) as reader,
        Path("labels.csv").open("w", newline="") as file,
    ):
        rows = csv.writer(file)
        rows.writerow(["file", "label", "score"])
        for batch, images in zip(batches, reader.map(read, batches), strict=True):
            logits = session.run({"input": images})["logits"]
            scores = np.exp(logits - logits.max(1, keepdims=True))
            scores /= scores.sum(1, keepdims=True)
            rows.writerows(zip([p.name for p in batch], scores.argmax(1), scores.max(1).round(4), strict=True))
    print(f"labels.csv: {len(paths)} pictures")
