"""The ONNX model passes onnx's checker and computes the network in onnxruntime."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from sparelu.export import to_onnx
from sparelu.networks.network import Layer, Network

from .networks import NETWORKS, expected, random_network, rows

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")


def computed(path, x: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(["scores"], {"x": x})[0]


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("name", NETWORKS)
def test_it_computes_the_network(tmp_path, name, sparse) -> None:
    network = NETWORKS[name]
    written = to_onnx(network, tmp_path / "net.onnx", sparse)
    assert written == (tmp_path / "net.onnx").stat().st_size
    onnx.checker.check_model(str(tmp_path / "net.onnx"), full_check=not sparse)
    x = rows(network)
    wanted, wrong = expected(network, x)
    out = computed(tmp_path / "net.onnx", x.astype(np.float32))
    assert out.shape == wanted.shape
    assert (np.abs(out - wanted) <= wrong).all()


@pytest.mark.parametrize("sparse", [False, True])
def test_float64_agrees_to_rounding(tmp_path, sparse) -> None:
    network = NETWORKS["deep, with a skip part"]
    to_onnx(network, tmp_path / "net.onnx", sparse, dtype=torch.float64)
    x = rows(network)
    np.testing.assert_allclose(computed(tmp_path / "net.onnx", x), expected(network, x)[0], rtol=1e-12, atol=1e-12)


def test_any_number_of_rows(tmp_path) -> None:
    to_onnx(NETWORKS["one hidden layer"], tmp_path / "net.onnx")
    assert computed(tmp_path / "net.onnx", np.zeros((0, 6), np.float32)).shape == (0, 1)
    assert computed(tmp_path / "net.onnx", np.zeros((1000, 6), np.float32)).shape == (1000, 1)


def test_a_square_layer_at_five_percent_is_small_when_sparse(tmp_path) -> None:
    nonzeros = round(0.05 * 512 * 512)
    network = random_network([512, 512], [nonzeros])
    dense, sparse = (to_onnx(network, tmp_path / f"{s}.onnx", s) for s in (False, True))
    bias, slack = 4 * 512, 600
    assert 4 * 512 * 512 + bias <= dense <= 4 * 512 * 512 + bias + slack
    assert 12 * nonzeros + bias <= sparse <= 12 * nonzeros + bias + slack
    x = rows(network).astype(np.float32)
    np.testing.assert_array_equal(computed(tmp_path / "False.onnx", x), computed(tmp_path / "True.onnx", x))


def test_sparse_is_used_only_where_it_is_smaller(tmp_path) -> None:
    network = random_network([30, 30, 30], [899, 60], bias=False)
    to_onnx(network, tmp_path / "net.onnx", sparse=True)
    graph = onnx.load(tmp_path / "net.onnx").graph
    assert [t.name for t in graph.initializer] == ["layer0.weight"]
    assert [t.values.name for t in graph.sparse_initializer] == ["layer1.weight"]


def test_only_inputs_that_are_used_are_stored(tmp_path) -> None:
    wide = Network.from_dense([np.eye(2, 10_000, 5_000), [[1.0, 2.0]]])
    assert to_onnx(wide, tmp_path / "net.onnx") < 2_000


def test_it_runs_where_onnx_1_8_does(tmp_path) -> None:
    to_onnx(NETWORKS["deep, with a skip part"], tmp_path / "net.onnx", sparse=True)
    model = onnx.load(tmp_path / "net.onnx")
    assert model.ir_version == 7
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 13)]


def test_names_and_classes_are_metadata(tmp_path) -> None:
    network = random_network([2, 5, 3], [6, 9])
    to_onnx(network, tmp_path / "net.onnx", names=["länge", "b"], classes=["x", "y", "z"])
    session = onnxruntime.InferenceSession(str(tmp_path / "net.onnx"))
    about = session.get_modelmeta().custom_metadata_map
    assert json.loads(about["names"]) == ["länge", "b"]
    assert json.loads(about["classes"]) == ["x", "y", "z"]
    assert about["nonzeros"] == "15"


def test_labels_that_do_not_fit_are_refused(tmp_path) -> None:
    with pytest.raises(ValueError, match="3 classes for 1 output"):
        to_onnx(NETWORKS["one hidden layer"], tmp_path / "net.onnx", classes=["a", "b", "c"])


def test_numbers_too_large_for_the_type(tmp_path) -> None:
    network = Network((Layer.from_dense([[1.0]]),), Layer.from_dense([[1.0]], [-1e200]))
    with pytest.raises(ValueError, match="1e\\+200 does not fit torch.float32"):
        to_onnx(network, tmp_path / "net.onnx")
    to_onnx(network, tmp_path / "net.onnx", dtype=torch.float64)


def test_without_onnx_the_error_says_what_to_install(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match=r"pip install sparelu\[onnx\]"):
        to_onnx(NETWORKS["affine"], tmp_path / "net.onnx")


def test_importing_export_does_not_import_onnx() -> None:
    code = "import sys, sparelu.export; assert 'onnx' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
