"""Which kernels ran the activations of a model in ONNX Runtime, as data, for `--json` and passports."""

from __future__ import annotations

from pydantic import BaseModel


class KernelPlacement(BaseModel):
    """`fused`: activations in one kernel of ours: provider -> operator -> how many; `others`: the rest of them,
    whose function bodies run.

    `in_engines`: whether some of `others` may be in engines of TensorRT's provider, whose content it does not show.
    `copies`: nodes that copy a tensor between CPU and GPU. `left`: other nodes that the provider which was wanted
    first leaves to the next ones: provider -> how many.
    """

    wanted: str
    fused: dict[str, dict[str, int]] = {}
    others: int = 0
    in_engines: bool = False
    copies: int = 0
    left: dict[str, int] = {}

    def __str__(self) -> str:
        """E.g. "2 fused on CUDAExecutionProvider (1 AGLU, 1 APA), 1 as function body"."""
        parts = [
            f"{sum(kinds.values())} fused on {provider} "
            f"({', '.join(f'{count} {kind}' for kind, count in sorted(kinds.items()))})"
            for provider, kinds in sorted(self.fused.items())
        ]
        if self.others:
            bodies = "function body" if self.others == 1 else "function bodies"
            parts.append(f"{self.others} {'in TensorRT engines or as' if self.in_engines else 'as'} {bodies}")
        said = ", ".join(parts) or "no com.apa node, so none of our kernels"
        for provider, count in sorted(self.left.items()):
            said += f"; {self.wanted} leaves {count} other node{'s' * (count > 1)} to {provider}"
        if self.copies:
            said += f"; {self.copies} cop{'ies' if self.copies > 1 else 'y'} between CPU and GPU"
        return said
