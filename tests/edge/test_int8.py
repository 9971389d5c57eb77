"""Quantised graphs: products with and without a bias, once and twice rounded."""

from __future__ import annotations

import platform
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edge.conftest import Exported
from sterna.edge.int8 import NARROWEST, bits_of, quantise
from sterna.edge.onnx_files import write_graph
from sterna.errors import InputError

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


class Wide(nn.Module):
    """A product whose sums of pairs pass 16 bits: large weights of one sign."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(32, 32, bias=False)
        with torch.no_grad():
            self.linear.weight.copy_(1 - 0.02 * torch.rand(32, 32))

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x)


def test_weights_of_seven_bits_do_not_saturate(tmp_path: Path) -> None:
    """On any processor; those of eight do where pairs are added in 16 bits."""
    model = Wide().eval()
    x = torch.rand(9, 32, generator=torch.Generator().manual_seed(1)) + 2
    write_graph((model, {"x": (x, {0: ROWS})}, ["y"]), tmp_path / "wide.onnx")
    errors = {}
    for bits in (8, 7):
        quantise("other", tmp_path / "wide.onnx", tmp_path / f"{bits}.onnx", bits=bits)
        with torch.no_grad():
            wanted = model(x)
        (errors[bits],) = _error(tmp_path / f"{bits}.onnx", {"x": x.numpy()}, (wanted,))
    share = {bits: error / float(wanted.max()) for bits, error in errors.items()}
    assert share[7] < 0.015
    assert share[8] > 0.2 if saturates() else share[8] < 0.015


@pytest.mark.parametrize(("given", "bits"), [(0, 0), (False, 0), (True, 8), (8, 8), (7, 7)])
def test_bits_are_read(given: int, bits: int) -> None:
    assert bits_of(given) == bits


def test_other_bits_are_refused() -> None:
    with pytest.raises(InputError, match="8 bits or 7, found 4"):
        bits_of(4)


@pytest.mark.parametrize("part", ["text", "panorama", "step"])
def test_only_narrow_matrices_stay_float32(exported: Exported, part: str) -> None:
    graph = onnx.load(exported.folder / f"{part}.int8.onnx").graph
    sizes = {entry.name: tuple(entry.dims) for entry in graph.initializer}
    products = [node for node in graph.node if node.op_type in ("MatMul", "Gemm")]
    left = [sizes[node.input[1]] for node in products if node.input[1] in sizes]
    assert all(min(size) < NARROWEST for size in left) and (left or part == "text")
    assert any(node.op_type == "MatMulInteger" for node in graph.node)
