"""Sound of any length: one input, an open size.  python examples/audio.py"""

import numpy as np
import torch
from apa_exporters.cli import main as apa_export
from own_network import AGLU
from torch import nn

import apa_deploy


class Tagger(nn.Module):
    """Waves N x 1 x L to the probabilities of five sounds, N x 5, and an embedding, N x 32."""

    def __init__(self):
        super().__init__()
        layers = [nn.Conv1d(1, 16, 64, stride=16, padding=32), AGLU(), nn.Conv1d(16, 32, 3, padding=1), AGLU()]
        self.features, self.head = nn.Sequential(*layers), nn.Linear(32, 5)

    def forward(self, wave):
        embedding = self.features(wave).mean(2)
        return {"sounds": self.head(embedding).softmax(1), "embedding": embedding}


if __name__ == "__main__":
    torch.manual_seed(0)
    torch.save(Tagger().state_dict(), "audio.pth")
    # `wave` is the name in forward, L stands for an open size
    if apa_export(["audio.pth", "--model", "audio:Tagger", "--input", "wave=1xL", "-o", "audio.onnx", "--force"]):
        raise SystemExit(1)
    with apa_deploy.Session("audio.onnx") as session:
        for seconds in (0.5, 2):
            wave = np.sin(np.arange(int(16000 * seconds), dtype=np.float32) * 0.17)[None, None]
            print(f"{seconds} s: {session.run({'wave': wave})['sounds'].round(3)[0]}")
