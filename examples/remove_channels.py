"""Train a small residual network sparse, let whole channels go, and cut them out: the model left is dense and smaller.

Run: python examples/remove_channels.py
"""

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

from sparelu.train import Chase, Removal, SoftBound, small_resnet

STEPS, BATCH, DENSITY = 400, 64, 0.2


def main() -> None:
    """An ordinary loop; the lines that differ are marked."""
    pixels, labels = load_digits(return_X_y=True)
    x = torch.tensor(pixels / 16, dtype=torch.float32).reshape(-1, 1, 8, 8)
    x_train, x_test, y_train, y_test = train_test_split(x, torch.tensor(labels), test_size=0.3, random_state=0)
    for channel_sparsity in (0.0, 0.4):
        torch.manual_seed(0)
        model = small_resnet(width=16, inputs=1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
        chase = Chase(  # new
            model,
            optimizer,
            density=DENSITY,
            channel_sparsity=channel_sparsity,
            total_steps=STEPS,
            plan=SoftBound(every=20),
            removal=Removal(every=20),
            residual=True,
        )
        rows = torch.Generator().manual_seed(0)
        for _ in range(STEPS):
            batch = torch.randint(len(x_train), (BATCH,), generator=rows)
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x_train[batch]), y_train[batch]).backward()
            chase.step()  # in place of optimizer.step()
            schedule.step()
        small = chase.shrink().eval()  # new
        with torch.no_grad():
            outputs = small(x_test)
            difference = float((outputs - model.eval()(x_test)).abs().max())
        accuracy = float((outputs.argmax(1) == y_test).float().mean())
        sizes = [sum(p.numel() for p in m.parameters()) for m in (model, small)]
        print(
            f"channel sparsity {channel_sparsity}: {chase.nonzeros} of {chase.size} weights live, "
            f"{sizes[0]} parameters become {sizes[1]}, outputs differ by {difference:.0e}, test accuracy {accuracy:.3f}"
        )


if __name__ == "__main__":
    main()
