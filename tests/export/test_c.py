"""The C code compiles without a warning, computes the network, and costs what its footprint says."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from sparelu.export import Footprint, to_c
from sparelu.networks.network import Network

from .networks import NETWORKS, expected, random_network, rows

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")

STRICT = ["cc", "-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic"]

HARNESS = """
#include <stdio.h>
#include "net.h"
static float x[NET_INPUTS], out[NET_OUTPUTS];
int main(void)
{
    while (fread(x, sizeof(float), NET_INPUTS, stdin) == NET_INPUTS) {
        net_predict(x, out);
        fwrite(out, sizeof(float), NET_OUTPUTS, stdout);
    }
    return 0;
}
"""

COUNTER = """
#include <stddef.h>
#include <stdint.h>
#include <cstdio>
static long products, sums, comparisons;
struct counted {
    double v;
    counted(double given = 0) : v(given) {}
    counted operator*(const counted &o) const { ++products; return counted(v * o.v); }
    counted &operator+=(const counted &o) { ++sums; v += o.v; return *this; }
    bool operator<(const counted &o) const { ++comparisons; return v < o.v; }
};
#define float counted
#include "net.c"
int main()
{
    static counted x[NET_INPUTS], out[NET_OUTPUTS];
    net_predict(x, out);
    std::printf("%ld %ld %ld", products, sums, comparisons);
}
"""


def run(*command: object, given: bytes = b"") -> bytes:
    done = subprocess.run([str(c) for c in command], input=given, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def computed(folder: Path, network: Network, x: np.ndarray) -> np.ndarray:
    """Outputs of the exported code, run under the sanitisers of addresses and undefined behaviour."""
    (folder / "main.c").write_text(HARNESS)
    checks = ["-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    run(*STRICT, *checks, folder / "net.c", folder / "main.c", "-o", folder / "main")
    out = run(folder / "main", given=x.astype(np.float32).tobytes())
    return np.frombuffer(out, dtype=np.float32).reshape(len(x), network.outputs)


@pytest.mark.parametrize("name", NETWORKS)
def test_it_computes_the_network(tmp_path, name) -> None:
    network = NETWORKS[name]
    to_c(network, tmp_path, "net")
    x = rows(network)
    wanted, wrong = expected(network, x)
    assert (np.abs(computed(tmp_path, network, x) - wanted) <= wrong).all()


@pytest.mark.parametrize("name", NETWORKS)
def test_flash_is_the_size_of_the_tables_in_the_object_file(tmp_path, name) -> None:
    cost = to_c(NETWORKS[name], tmp_path, "net")
    run(*STRICT, "-O0", "-c", tmp_path / "net.c", "-o", tmp_path / "net.o")
    symbols = [line.split() for line in run("nm", "-S", tmp_path / "net.o").decode().splitlines()]
    assert sum(int(s[1], 16) for s in symbols if len(s) == 4 and s[2] == "r") == cost.flash


@pytest.mark.parametrize("hidden", [(), (600,), (400, 900, 700)])
def test_ram_is_the_stack_that_the_compiler_takes(tmp_path, hidden) -> None:
    widths = (3, *hidden, 1)
    layers = [np.zeros((b, a)) for a, b in zip(widths, widths[1:], strict=False)]
    for w in layers:
        each = np.arange(max(w.shape))
        w[each % w.shape[0], each % w.shape[1]] = 1  # every unit is fed and read
    cost = to_c(Network.from_dense(layers), tmp_path, "net")
    run(*STRICT, "-Os", "-fstack-usage", "-c", tmp_path / "net.c", "-o", tmp_path / "net.o")
    taken = int((tmp_path / "net.su").read_text().split("\t")[1])
    registers_or_red_zone = 128
    assert abs(taken - cost.ram) <= registers_or_red_zone


@pytest.mark.parametrize("name", NETWORKS)
def test_operations_are_those_that_run(tmp_path, name) -> None:
    cost = to_c(NETWORKS[name], tmp_path, "net")
    (tmp_path / "count.cpp").write_text(COUNTER)
    run("c++", "-Wall", "-Wextra", "-Werror", tmp_path / "count.cpp", "-o", tmp_path / "count")
    products, sums, comparisons = map(int, run(tmp_path / "count").split())
    assert (products, sums, comparisons) == (cost.multiply_adds, cost.multiply_adds, cost.comparisons)


def test_the_footprint_of_a_network_counted_by_hand(tmp_path) -> None:
    # 2 - 2 - 1: three hidden weights (4 B, an index byte each), two row lengths, two biases; two output weights, one
    # row length; no output bias.
    network = Network.from_dense([[[1.0, 2.0], [0.0, 3.0]], [[1.0, -1.0]]], [[0.5, 0.25], None])
    cost = to_c(network, tmp_path, "net")
    assert cost == Footprint(flash=3 * 5 + 2 + 2 * 4 + 2 * 5 + 1, ram=2 * 4, multiply_adds=5, comparisons=2)
    header = (tmp_path / "net.h").read_text()
    assert "36 bytes of constant tables" in header
    assert "8 bytes of stack" in header
    assert "5 multiply-adds, 2 comparisons" in header


def test_a_deep_network_shares_two_buffers(tmp_path) -> None:
    assert to_c(random_network([4, 6, 5, 8, 1], [24, 30, 40, 8]), tmp_path).ram == 4 * (8 + 5)


def test_indices_take_the_smallest_type(tmp_path) -> None:
    found = {}
    for inputs in (256, 257, 65_536, 65_537):
        edge = Network.from_dense([np.eye(1, inputs, inputs - 1), [[1.0]]])
        to_c(edge, tmp_path, "net")
        line = next(s for s in (tmp_path / "net.c").read_text().splitlines() if "layer0_inputs[" in s)
        found[inputs] = line.split()[2]
    assert found == {256: "uint8_t", 257: "uint16_t", 65_536: "uint16_t", 65_537: "uint32_t"}


def test_nan_is_passed_on(tmp_path) -> None:
    network = Network.from_dense([[[1.0, 0.0]], [[1.0]]])
    to_c(network, tmp_path, "net")
    out = computed(tmp_path, network, np.array([[np.nan, 0.0], [1.0, np.nan]]))
    np.testing.assert_array_equal(out, [[np.nan], [1.0]])


def test_the_header_is_also_cpp_and_names_inputs_and_classes(tmp_path) -> None:
    network = random_network([3, 4, 3], [4, 6], seed=2)
    to_c(network, tmp_path, "net", names=["age", "*/ int x; /*", "höhe"], classes=["a/*", "*/", "c\\"])
    header = (tmp_path / "net.h").read_text()
    assert '1 = "' in header
    (tmp_path / "main.cpp").write_text(
        '#include "net.h"\nint main() { float x[3] = {}, out[3]; net_predict(x, out); }\n'
    )
    run(*STRICT, "-c", tmp_path / "net.c", "-o", tmp_path / "net.o")
    run("c++", "-Wall", "-Wextra", "-Werror", tmp_path / "main.cpp", tmp_path / "net.o", "-o", tmp_path / "main")


def test_two_classes_are_told_by_the_sign(tmp_path) -> None:
    to_c(NETWORKS["one hidden layer"], tmp_path, classes=["no", "yes"])
    assert 'out[0] > 0 means "yes", else "no".' in (tmp_path / "network.h").read_text()


@pytest.mark.parametrize("name", ["", "2net", "my net", "net;", "_net", "a-b", "../net", "nét", "net\n"])
def test_names_that_are_no_identifier_are_refused(tmp_path, name) -> None:
    with pytest.raises(ValueError, match="cannot start a C identifier"):
        to_c(NETWORKS["affine"], tmp_path, name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["math", "stdint", "String"])
def test_names_of_library_headers_are_refused(tmp_path, name) -> None:
    with pytest.raises(ValueError, match="header of the C library"):
        to_c(NETWORKS["affine"], tmp_path, name)


def test_keywords_are_allowed_as_they_only_start_a_name(tmp_path) -> None:
    to_c(NETWORKS["affine"], tmp_path, "int")
    run(*STRICT, "-c", tmp_path / "int.c", "-o", tmp_path / "int.o")


def test_numbers_that_float32_does_not_hold(tmp_path) -> None:
    with pytest.raises(ValueError, match="1e\\+39 does not fit torch.float32"):
        to_c(Network.from_dense([[[1e39]], [[1.0]]]), tmp_path)
    extremes = Network.from_dense([[[3.4e38, 1e-300, 1e-40]]], [[1e-45]])
    assert to_c(extremes, tmp_path, "net").multiply_adds == 2
    out = computed(tmp_path, extremes, np.array([[0.5, 1e30, 0.0], [0.0, 0.0, 2.0]]))
    np.testing.assert_array_equal(out[:, 0], np.float32([1.7e38, 2e-40 + 1e-45]))


@pytest.mark.parametrize(
    ("given", "words"), [({"names": ["a"]}, "1 names for 6 inputs"), ({"classes": ["a"]}, "1 classes for 1 output")]
)
def test_labels_that_do_not_fit(tmp_path, given, words) -> None:
    with pytest.raises(ValueError, match=words):
        to_c(NETWORKS["one hidden layer"], tmp_path, **given)
