"""Make your own torch model sparse in your own loop: 2% of the weights of a small convolutional network on digits.

Run: python examples/train_your_model.py
"""

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

from sparelu.train.dynamic import RigL
from sparelu.train.sparsifier.sparsifier import Sparsifier
from sparelu.train.sparsifier.update_schedules import Exploration, Gradual
from sparelu.train.static import GradualMagnitude, Static

STEPS, BATCH, DENSITY = 600, 64, 0.02


def network(seed: int) -> nn.Module:
    """Any module will do."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * 16, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
    )


def train(model: nn.Module, sparsifier: Sparsifier, x: torch.Tensor, y: torch.Tensor) -> None:
    """An ordinary loop; the one line that differs is marked."""
    rows = torch.Generator().manual_seed(0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(sparsifier.optimizer, STEPS)
    for _ in range(STEPS):
        batch = torch.randint(len(x), (BATCH,), generator=rows)
        sparsifier.optimizer.zero_grad()
        nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
        sparsifier.step()  # in place of optimizer.step()
        schedule.step()


def main() -> None:
    """A random support that stays, one that moves, and one that shrinks, all with the same number of weights."""
    pixels, labels = load_digits(return_X_y=True)
    x = torch.tensor(pixels / 16, dtype=torch.float32).reshape(-1, 1, 8, 8)
    x_train, x_test, y_train, y_test = train_test_split(x, torch.tensor(labels), test_size=0.3, random_state=0)
    methods = {
        "static": lambda model, optimizer: Static(model, optimizer, density=DENSITY),
        "RigL": lambda model, optimizer: RigL(
            model, optimizer, density=DENSITY, total_steps=STEPS, plan=Exploration(every=25)
        ),
        "gradual": lambda model, optimizer: GradualMagnitude(
            model, optimizer, density=DENSITY, total_steps=STEPS, plan=Gradual(every=25)
        ),
    }
    for name, method in methods.items():
        model = network(seed=0)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
        sparsifier = method(model, optimizer)
        train(model, sparsifier, x_train, y_train)
        with torch.no_grad():
            accuracy = float((model(x_test).argmax(1) == y_test).float().mean())
        print(f"{name:>8}: {sparsifier.nonzeros} of {sparsifier.size} weights, test accuracy {accuracy:.3f}")


if __name__ == "__main__":
    main()
