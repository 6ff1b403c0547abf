"""A callback of Lightning that keeps a model sparse: two lines, and checkpoints resume bit for bit.

    callback = LightningCallback(RigL, density=0.1)
    Trainer(callbacks=[callback], ...).fit(module)

Needs the package ``lightning``, which nothing else here imports.
"""

from collections.abc import Callable
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from sparelu.train.sparsifier.sparsifier import Sparsifier


class LightningCallback(Callback):
    """Makes ``method(module, optimizer, total_steps=..., **choices)`` when training starts, from the first optimiser.

    Its state goes into the checkpoints. Every ``log_every`` steps density, explored share and moves of the support are
    logged with the module's own logger. Training that ends before its plan is brought to the budget. A second ``fit``
    goes on with the support of the first.
    """

    def __init__(self, method: Callable[..., Sparsifier], *, log_every: int = 50, **choices: Any) -> None:
        self.method, self.log_every, self.choices = method, log_every, choices
        self.sparsifier: Sparsifier | None = None
        self._loaded: dict[str, Any] | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Make the sparsifier; model and optimiser have their states by now."""
        if len(trainer.optimizers) != 1:
            raise ValueError(
                f"the module has {len(trainer.optimizers)} optimizers: make a sparsifier for each in on_train_start of "
                "your own, with `layers`"
            )
        choices = dict(self.choices)
        if self.sparsifier is not None and self._loaded is None:
            choices = {k: v for k, v in choices.items() if k not in ("density", "nonzeros")}
            choices["masks"] = self.sparsifier.masks
        total = int(trainer.estimated_stepping_batches)
        self.sparsifier = self.method(pl_module, trainer.optimizers[0], total_steps=total, **choices)
        if self._loaded is not None:
            self.sparsifier.load_state_dict(self._loaded)
            self._loaded = None

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """Log what the support does."""
        if self.sparsifier is not None and trainer.global_step % self.log_every == 0:
            pl_module.log_dict({f"sparsity/{k}": v for k, v in self.sparsifier.numbers().items()})

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Bring the budget, and leave the model as it is."""
        if self.sparsifier is not None:
            self.sparsifier.finish()
            self.sparsifier.detach()

    def state_dict(self) -> dict[str, Any]:
        """Return the sparsifier's state, for the checkpoint."""
        return {} if self.sparsifier is None else self.sparsifier.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the state until the sparsifier is made."""
        self._loaded = state_dict or None
