"""Quantised graphs: products with and without a bias, once and twice rounded."""

from __future__ import annotations

import platform
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edge.conftest import Exported
from sterna.edge.int8 import NARROWEST, quantise
from sterna.edge.onnx_files import write_graph

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

ROWS = torch.export.Dim("rows")


class Pair(nn.Module):
    """One product behind each of two inputs, with matrices that eight bits hold exactly."""

    def __init__(self, bias: bool) -> None:
        """Draw whole numbers up to 127, with 127 in every column: a scale of 1."""
        super().__init__()
        self.first, self.second = nn.Linear(32, 24, bias=bias), nn.Linear(32, 24, bias=bias)
        draw = torch.Generator().manual_seed(0)
        for linear in (self.first, self.second):
            weight = torch.randint(-127, 128, linear.weight.shape, generator=draw).float()
            weight[:, 0] = 127
            linear.weight.data = weight

    def forward(self, features: Tensor, near: Tensor) -> tuple[Tensor, Tensor]:
        """Multiply both."""
        return self.first(features), self.second(near)


def _error(path: Path, feed: dict[str, np.ndarray], wanted: tuple[Tensor, ...]) -> list[float]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found = session.run(None, feed)
    pairs = zip(found, wanted, strict=True)
    return [float(np.abs(a - b.numpy()).max()) for a, b in pairs]


def saturates() -> bool:
    """Whether ONNX Runtime adds pairs of 8-bit products in 16 bits here (x86 without VNNI)."""
    if platform.machine() not in ("x86_64", "AMD64") or not Path("/proc/cpuinfo").is_file():
        return False
    return "vnni" not in Path("/proc/cpuinfo").read_text()


@pytest.mark.skipif(saturates(), reason="without VNNI sums of 8-bit products saturate")
@pytest.mark.parametrize("bias", [True, False])
def test_what_rounding_takes_is_multiplied_too(tmp_path: Path, bias: bool) -> None:
    model = Pair(bias).eval()
    x, y = torch.randn(2, 9, 32, generator=torch.Generator().manual_seed(1)).unbind(0)
    inputs = {"features": (x, {0: ROWS}), "near": (y, {0: ROWS})}
    write_graph((model, inputs, ["a", "b"]), tmp_path / "step.onnx")
    quantise("step", tmp_path / "step.onnx", tmp_path / "step.int8.onnx")
    kinds = [node.op_type for node in onnx.load(tmp_path / "step.int8.onnx").graph.node]
    assert kinds.count("MatMulInteger") == 3 and "Gemm" not in kinds and "MatMul" not in kinds
    with torch.no_grad():
        feed = {"features": x.numpy(), "near": y.numpy()}
        twice, once = _error(tmp_path / "step.int8.onnx", feed, model(x, y))
    rounding = float(y.max() - y.min()) / 510 * float(model.second.weight.detach().abs().max())
    assert once > rounding  # seen at all
    assert twice < once / 50


@pytest.mark.parametrize("part", ["text", "panorama", "step"])
def test_only_narrow_matrices_stay_float32(exported: Exported, part: str) -> None:
    graph = onnx.load(exported.folder / f"{part}.int8.onnx").graph
    sizes = {entry.name: tuple(entry.dims) for entry in graph.initializer}
    products = [node for node in graph.node if node.op_type in ("MatMul", "Gemm")]
    left = [sizes[node.input[1]] for node in products if node.input[1] in sizes]
    assert all(min(size) < NARROWEST for size in left) and (left or part == "text")
    assert any(node.op_type == "MatMulInteger" for node in graph.node)
