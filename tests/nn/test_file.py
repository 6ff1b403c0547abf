"""Files of sparse modules: every bit comes back, the form is the smallest, and other files are refused."""

from pathlib import Path

import pytest
import torch
from torch import nn

from sparelu.nn.file import form_bytes, forms, load_sparse, save_sparse
from sparelu.nn.sparse_linear import SparseLinear
from sparelu.store import StoreError, save_state

HEADER = 2000


def masked(inputs: int, outputs: int, density: float, seed: int = 0) -> nn.Linear:
    g = torch.Generator().manual_seed(seed)
    linear = nn.Linear(inputs, outputs, bias=False)
    with torch.no_grad():
        linear.weight.copy_(torch.randn(outputs, inputs, generator=g))
        linear.weight.mul_(torch.rand(outputs, inputs, generator=g) < density)
    return linear


@pytest.mark.parametrize(
    ("inputs", "outputs", "density", "form", "kib"),
    [
        (1024, 1024, 0.5, "bitmap", 2176),
        (1024, 1024, 0.10, "bitmap", 538),
        (1024, 1024, 0.01, "rows16", 66),
        (1024, 1024, 0.001, "rows16", 10),
        (70000, 3, 0.01, "rows32", None),
        (64, 64, 1.0, "dense", 16),
    ],
)
def test_the_form_is_the_smallest_and_the_size_is_that_of_the_table(
    tmp_path: Path, inputs: int, outputs: int, density: float, form: str, kib: int | None
) -> None:
    """``kib``: measured with other code for 1024 x 1024 in float32, without a header."""
    linear = masked(inputs, outputs, density)
    written = save_sparse(linear, tmp_path / "a")
    assert forms(tmp_path / "a") == {"weight": form}
    sizes = form_bytes((outputs, inputs), int((linear.weight != 0).sum()), 4)
    assert min(sizes, key=sizes.__getitem__) == form
    assert written == (tmp_path / "a").stat().st_size
    assert sizes[form] <= written <= sizes[form] + HEADER
    if kib is not None:
        assert sizes[form] / 1024 == pytest.approx(kib, rel=0.01, abs=1)


@pytest.mark.parametrize("density", [0.01, 0.2, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_every_bit_comes_back(tmp_path: Path, density: float, dtype: torch.dtype) -> None:
    """Convolutions, buffers, counters and a sparse layer; infinity and NaN among the weights."""

    def made(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        layers = (nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), masked(40, 30, density, seed))
        return nn.Sequential(*(m.to(dtype) for m in layers), SparseLinear.random(30, 20, density=density, seed=seed))

    model, fresh = made(0), made(1)
    with torch.no_grad():
        model[2].weight[0, :4] = torch.tensor([1e-38, float("inf"), float("nan"), 1e-7])
        model[0].weight[:, 1:] = 0
        for name in ("0.weight", "2.weight"):
            model.get_parameter(name).add_(0.0)  # no negative zeros
        model[3].values[0] = 0
    save_sparse(model, tmp_path / "a")
    load_sparse(fresh, tmp_path / "a")
    for (name, value), back in zip(model.state_dict().items(), fresh.state_dict().values(), strict=True):
        assert value.dtype == back.dtype
        whole = torch.int64 if value.itemsize == 8 else torch.int32 if value.itemsize == 4 else torch.int16
        assert torch.equal(value.reshape(-1).view(whole), back.reshape(-1).view(whole)), name


def test_negative_zeros_are_zeros(tmp_path: Path) -> None:
    linear = masked(100, 100, 0.01)
    assert bool(linear.weight.signbit()[linear.weight == 0].any())
    save_sparse(linear, tmp_path / "a")
    assert forms(tmp_path / "a") == {"weight": "rows16"}
    fresh = masked(100, 100, 0.5, seed=1)
    load_sparse(fresh, tmp_path / "a")
    assert torch.equal(fresh.weight, linear.weight)


def test_masks_and_sparse_layers_read_each_other(tmp_path: Path) -> None:
    dense = nn.Sequential(masked(50, 40, 0.1), nn.ReLU(), nn.Linear(40, 2))
    sparse = nn.Sequential(SparseLinear.random(50, 40, nonzeros=3, bias=False), nn.ReLU(), nn.Linear(40, 2))
    save_sparse(dense, tmp_path / "a")
    load_sparse(sparse, tmp_path / "a")
    assert torch.equal(sparse[0].to_dense().weight, dense[0].weight)
    x = torch.randn(5, 50)
    torch.testing.assert_close(sparse(x), dense(x))
    save_sparse(sparse, tmp_path / "b")
    back = nn.Sequential(nn.Linear(50, 40, bias=False), nn.ReLU(), nn.Linear(40, 2))
    load_sparse(back, tmp_path / "b")
    assert torch.equal(back[0].weight, dense[0].weight)
    assert (tmp_path / "a").stat().st_size == (tmp_path / "b").stat().st_size


def test_files_of_other_models(tmp_path: Path) -> None:
    save_sparse(nn.Linear(3, 2), tmp_path / "a")
    with pytest.raises(
        StoreError, match=r"weight is torch.float32 of shape \(2, 3\) there and .* of shape \(2, 4\) here"
    ):
        load_sparse(nn.Linear(4, 2), tmp_path / "a")
    with pytest.raises(StoreError, match="only the file has bias"):
        load_sparse(nn.Linear(3, 2, bias=False), tmp_path / "a")
    with pytest.raises(StoreError, match="only the module has 0.bias"):
        load_sparse(nn.Sequential(nn.Linear(3, 2)), tmp_path / "a")
    with pytest.raises(StoreError, match="torch.float32 of shape .* and torch.float64"):
        load_sparse(nn.Linear(3, 2).double(), tmp_path / "a")


def test_damaged_files(tmp_path: Path) -> None:
    path = tmp_path / "a"
    model = masked(30, 20, 0.2)
    before = model.weight.detach().clone()
    save_sparse(model, path)
    content = path.read_bytes()
    for cut in (10, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:cut])
        with pytest.raises(StoreError, match="truncated"):
            load_sparse(model, path)
    path.write_bytes(content[:-5] + bytes([content[-5] ^ 1]) + content[-4:])
    with pytest.raises(StoreError, match="checksum"):
        load_sparse(model, path)
    save_state({"kind": "else"}, path)
    with pytest.raises(StoreError, match="holds no module"):
        load_sparse(model, path)
    with pytest.raises(StoreError, match="no such file"):
        load_sparse(model, tmp_path / "none")
    assert torch.equal(model.weight, before)
