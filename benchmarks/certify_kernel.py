"""Tangent kernels of randomly pruned networks against their limit: error by width and density, rescaled and not.

    python benchmarks/certify_kernel.py

Two hidden layers, 5 unit rows in R^10, mean of 3 draws: largest error of an entry (the entries are 1 to 3), and the
ratio of traces to the dense limit without rescaling, which tends to density^2.
"""

import numpy as np

from sparelu.certify.kernel import limit_kernel, random_pruned, tangent_kernel

WIDTHS = (250, 1000, 2000)


def main() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((5, 10))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    limit = limit_kernel(x, 2)
    print("| density | " + " | ".join(f"m = {m}" for m in WIDTHS) + " | ratio, not rescaled | density^2 |")
    print("|---" * (len(WIDTHS) + 3) + "|")
    for density in (1.0, 0.5, 0.2, 0.1):
        errors, ratios = [], []
        for width in WIDTHS:
            found = []
            for _ in range(3):
                network, scales = random_pruned(10, width, 2, density, True, rng)
                found.append(np.abs(tangent_kernel(network, x, scales) - limit).max())
            errors.append(np.mean(found))
        for _ in range(3):
            network, scales = random_pruned(10, WIDTHS[-1], 2, density, False, rng)
            ratios.append(np.trace(tangent_kernel(network, x, scales)) / np.trace(limit))
        print(
            f"| {density:g} | "
            + " | ".join(f"{e:.3f}" for e in errors)
            + f" | {np.mean(ratios):.4f} | {density**2:g} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
