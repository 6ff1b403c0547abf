"""The callbacks with the real libraries, on tiny models made in place."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from sparelu.train import GradualMagnitude, RigL
from sparelu.train.sparsifier.update_schedules import Exploration, Gradual

lightning = pytest.importorskip("lightning.pytorch")
transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.filterwarnings("ignore")  # theirs
OFTEN = Exploration(every=2, until=1.0)


class Module(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 1))

    def training_step(self, batch: Any, index: int) -> torch.Tensor:
        return (self.body(batch[0]) - batch[1]).square().mean()

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=0.01)


def rows() -> DataLoader:
    g = torch.Generator().manual_seed(0)
    x = torch.randn(40, 8, generator=g)
    return DataLoader(TensorDataset(x, x[:, :1].abs()), batch_size=8)


def trainer(folder: Path, callback: Any, epochs: int) -> Any:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    return lightning.Trainer(max_epochs=epochs, callbacks=[callback], default_root_dir=folder, **quiet)


def test_lightning_trains_sparse_and_resumes_bit_for_bit(tmp_path: Path) -> None:
    from sparelu.train.lightning import LightningCallback

    def made() -> tuple[Any, Any]:
        torch.manual_seed(0)
        return Module(), LightningCallback(RigL, density=0.3, plan=OFTEN, log_every=1)

    whole, callback = made()
    trainer(tmp_path / "whole", callback, 4).fit(whole, rows())
    sparsifier = callback.sparsifier
    assert sparsifier.steps == 20
    assert sparsifier.nonzeros == sparsifier.active == round(0.3 * sparsifier.size)
    assert sparsifier.updates > 5

    half, callback = made()
    stopped = trainer(tmp_path / "half", callback, 4)
    stopped.limit_train_batches = 5
    keep = lightning.callbacks.ModelCheckpoint(tmp_path / "kept", every_n_epochs=1, save_top_k=-1)
    stopped.callbacks.append(keep)
    stopped.fit(half, rows())
    first = sorted((tmp_path / "kept").glob("epoch=1*"))[0]
    again, callback = made()
    torch.nn.init.zeros_(again.body[0].weight)
    trainer(tmp_path / "again", callback, 4).fit(again, rows(), ckpt_path=first)
    assert callback.sparsifier.steps == 20
    for a, b in zip(whole.state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_lightning_that_stops_early_has_the_budget(tmp_path: Path) -> None:
    from sparelu.train.lightning import LightningCallback

    class Stop(lightning.Callback):
        def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
            trainer.should_stop = trainer.global_step >= 3

    torch.manual_seed(0)
    module, callback = Module(), LightningCallback(GradualMagnitude, nonzeros=20, plan=Gradual(every=1))
    run = trainer(tmp_path, callback, 4)
    run.callbacks.insert(0, Stop())
    run.fit(module, rows())
    assert callback.sparsifier.nonzeros == 20
    assert sum(int(m.weight.count_nonzero()) for m in (module.body[0], module.body[2])) <= 20


class Words(torch.utils.data.Dataset):
    def __len__(self) -> int:
        return 24

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        words = (torch.arange(6) * (index + 1)) % 11
        return {"input_ids": words, "labels": words}


def language_model() -> Any:
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=11, n_positions=8, n_embd=8, n_layer=1, n_head=2, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0
    )
    return transformers.GPT2LMHeadModel(config)


def test_the_trainer_of_transformers_trains_sparse_and_resumes(tmp_path: Path) -> None:
    from sparelu.train.transformers import FILE, TransformersCallback

    logged: list[tuple[dict[str, float], int]] = []

    def run(resume: str | None) -> tuple[Any, Any]:
        model = language_model()
        callback = TransformersCallback(
            RigL, density=0.3, plan=OFTEN, exclude="lm_head", log=lambda numbers, step: logged.append((numbers, step))
        )
        arguments = transformers.TrainingArguments(
            output_dir=str(tmp_path / "out"),
            per_device_train_batch_size=4,
            num_train_epochs=2,
            save_steps=6,
            logging_steps=3,
            report_to=[],
            use_cpu=True,
            disable_tqdm=True,
            seed=1,
        )
        made = transformers.Trainer(model, arguments, train_dataset=Words(), callbacks=[callback])
        made.train(resume_from_checkpoint=resume)
        return model, callback.sparsifier

    model, sparsifier = run(None)
    assert sparsifier.steps == 12
    assert sparsifier.nonzeros == sparsifier.active == round(0.3 * sparsifier.size)
    assert {"sparsity/density", "sparsity/explored", "sparsity/moves"} <= logged[0][0].keys()
    assert [step for _, step in logged][:2] == [3, 6]
    file = tmp_path / "out" / "checkpoint-6" / FILE
    assert file.is_file()
    again, resumed = run(str(file.parent))
    assert resumed.steps == 12
    assert all(torch.equal(m, resumed.masks[n]) for n, m in sparsifier.masks.items())
    for a, b in zip(model.state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    file.unlink()
    with pytest.raises(ValueError, match=f"written without this callback: it has no {FILE}"):
        run(str(file.parent))
