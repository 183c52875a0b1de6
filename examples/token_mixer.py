"""Tokens and a mask: two inputs of integers, the sequence's length open.  python examples/token_mixer.py"""

import numpy as np
import torch
from apa_exporters.cli import main as apa_export
from own_network import AGLU
from torch import nn

import apa_deploy


class Block(nn.Module):
    """Attention mixes the tokens, then AGLU between two linear layers mixes the channels."""

    def __init__(self, width):
        super().__init__()
        self.attention = nn.MultiheadAttention(width, 4, batch_first=True)
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.channels = nn.Sequential(nn.Linear(width, 4 * width), AGLU(), nn.Linear(4 * width, width))

    def forward(self, x, padding):
        normed = self.first(x)
        x = x + self.attention(normed, normed, normed, key_padding_mask=padding, need_weights=False)[0]
        return x + self.channels(self.second(x))


class Classifier(nn.Module):
    """Ids N x T and a mask N x T (1: a token, 0: padding) to logits N x 3."""

    def __init__(self, words=500, width=32):
        super().__init__()
        self.table, self.head = nn.Embedding(words, width), nn.Linear(width, 3)
        self.blocks = nn.ModuleList([Block(width)])

    def forward(self, input_ids, attention_mask):
        x = self.table(input_ids)
        for block in self.blocks:
            x = block(x, attention_mask == 0)
        shown = attention_mask[..., None].float()
        return self.head((x * shown).sum(1) / shown.sum(1).clamp(min=1))


if __name__ == "__main__":
    torch.manual_seed(0)
    torch.save(Classifier().state_dict(), "tokens.pth")
    inputs = [part for name in ("input_ids", "attention_mask") for part in ("--input", f"{name}=T:int64")]
    command = ["tokens.pth", "--model", "token_mixer:Classifier", *inputs, "-o", "tokens.onnx", "--force"]
    if apa_export(command):
        raise SystemExit(1)
    with apa_deploy.Session("tokens.onnx") as session:
        ids = np.array([[7, 42, 9, 0, 0, 0]])
        short = session.run({"input_ids": ids[:, :3], "attention_mask": np.ones((1, 3), np.int64)})["logits"]
        padded = session.run({"input_ids": ids, "attention_mask": np.int64(ids > 0)})["logits"]
        print(f"padding changes the logits by {abs(short - padded).max():.1e}")
