"""A callback of the Trainer of transformers that keeps a model sparse: two lines, and checkpoints resume.

    callback = TransformersCallback(RigL, density=0.1)
    Trainer(model, args, train_dataset=rows, callbacks=[callback]).train()

Needs the package ``transformers``, which nothing else here imports.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from sparelu.train.sparsifier.sparsifier import Sparsifier

FILE = "sparsifier.pt"
"""In the folder of each checkpoint."""


class TransformersCallback(TrainerCallback):
    """Makes ``method(model, optimizer, total_steps=..., **choices)`` when training begins.

    Its state is written beside each checkpoint and read when one is resumed. Density, explored share and moves of the
    support go into the Trainer's log history, and to ``log(numbers, step)`` where it is given, such as
    ``mlflow.log_metrics``. Training that ends before its plan is brought to the budget.
    """

    def __init__(
        self,
        method: Callable[..., Sparsifier],
        *,
        log: Callable[[dict[str, float], int], Any] | None = None,
        **choices: Any,
    ) -> None:
        self.method, self.log, self.choices = method, log, choices
        self.sparsifier: Sparsifier | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **held: Any
    ) -> None:
        """Make the sparsifier; model and optimiser have their states by now.

        Raises ``ValueError`` when a checkpoint is resumed that has no state of a sparsifier.
        """
        model, optimizer = held["model"], held["optimizer"]
        self.sparsifier = self.method(model, optimizer, total_steps=state.max_steps, **self.choices)
        if state.global_step:
            file = self._folder(args, state) / FILE
            if not file.is_file():
                self.sparsifier.detach()
                raise ValueError(
                    f"{file.parent} was written without this callback: it has no {FILE}, so that the support is "
                    "unknown. Begin anew, or give its masks"
                )
            self.sparsifier.load_state_dict(torch.load(file, weights_only=True))

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **held: Any) -> None:
        """Write the state into the folder of the checkpoint."""
        if self.sparsifier is not None and state.is_world_process_zero:
            folder = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
            folder.mkdir(parents=True, exist_ok=True)
            torch.save(self.sparsifier.state_dict(), folder / FILE)

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **held: Any) -> None:
        """Add what the support does to the newest line of the history."""
        if self.sparsifier is None:
            return
        numbers = {f"sparsity/{k}": v for k, v in self.sparsifier.numbers().items()}
        if state.log_history:
            state.log_history[-1].update(numbers)
        if self.log is not None:
            self.log(numbers, state.global_step)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **held: Any) -> None:
        """Bring the budget, and leave the model as it is."""
        if self.sparsifier is not None:
            self.sparsifier.finish()
            self.sparsifier.detach()

    def _folder(self, args: TrainingArguments, state: TrainerState) -> Path:
        resumed = args.resume_from_checkpoint
        named = Path(resumed) if isinstance(resumed, str) else None
        return named or Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
