"""Train a dictionary: SAELens' trainer fed from our own forward passes, resumable at every block.

BatchTopK (Bussmann et al. 2412.06410) or Matryoshka BatchTopK (Bussmann et al. 2503.17547). Both are saved as JumpReLU
SAEs: the threshold is the running mean of the smallest kept activation, so inference does not depend on the batch.
"""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import torch
from sae_lens import (
    BatchTopKTrainingSAE,
    BatchTopKTrainingSAEConfig,
    MatryoshkaBatchTopKTrainingSAE,
    MatryoshkaBatchTopKTrainingSAEConfig,
)
from sae_lens.config import SAETrainerConfig
from sae_lens.saes.sae import SAEMetadata, TrainingSAE
from sae_lens.training.sae_trainer import SAETrainer
from torch import Tensor

from store.disk import full_disk_explained, make_folder
from store.errors import UserError
from tools.workbench.batches import cut_windows, forward, take_tokens
from tools.workbench.corpus import Corpus
from tools.workbench.subject import Subject

BLOCK_TOKENS = 262_144  # activations shuffled together, and the interval between checkpoints
NORM_BATCHES = 20  # batches that the input scale is estimated from
INFERENCE_FILES = ("cfg.json", "sae_weights.safetensors")


@dataclass(frozen=True)
class TrainingPlan:
    """What decides the result. Tokens are real, unmasked tokens of text, not padding."""

    architecture: Literal["batchtopk", "matryoshka"] = "batchtopk"
    n_latents: int = 4608
    k: int = 64  # mean active latents a token
    tokens: int = 5_242_880
    batch: int = 2048  # tokens an optimiser step
    learning_rate: float = 1e-3
    warm_up: float = 0.02  # share of the steps
    decay: float = 0.2  # share of the steps, at the end
    dead_after: int = 250  # steps without firing, a tenth of all at most
    seed: int = 0

    def __post_init__(self) -> None:
        if self.tokens < self.batch:
            raise UserError(f"{self.tokens:,} tokens are less than one step: ask for at least {self.batch:,}.")
        if not 0 < self.k <= self.n_latents:
            raise UserError(f"k = {self.k} of {self.n_latents} latents cannot be active: give a k from 1 to the width.")
        if self.architecture == "matryoshka" and self.n_latents < 16:
            raise UserError(f"{self.n_latents} latents are too few for Matryoshka's five widths: give at least 16.")

    @property
    def steps(self) -> int:
        return self.tokens // self.batch


CLAIM = "training.json"  # what is trained here, so that nothing else goes on with it
Progress = Callable[[int, int, str], None]  # (tokens done, tokens in all, what the loss says)


def train(subject: Subject, corpus: Corpus, plan: TrainingPlan, folder: Path, progress: Progress) -> Path:
    """Trains on the corpus's training documents and returns the folder of the finished SAELens dictionary.

    Killed at any moment and called again with the same arguments, it goes on from the last block of 262,144 tokens.
    Raises UserError when the corpus is too small or `folder` holds another plan's training.
    """
    header = {
        "plan": asdict(plan),
        "corpus": corpus.hash,
        "subject": subject.name,
        "hook": subject.hook,
        "dtype": str(subject.dtype).removeprefix("torch."),
    }
    width = subject.residual(torch.full((1, 2), subject.bos)).shape[2:]
    if width != (subject.d_model,):
        raise UserError(
            f"{subject.hook} does not hold vectors of {subject.d_model} numbers, as a dictionary needs them: name "
            "one such as blocks.15.hook_resid_pre, hook_resid_post, hook_attn_out or hook_mlp_out."
        )
    with full_disk_explained(folder):
        _claim(folder, header)
        if not all((folder / name).exists() for name in INFERENCE_FILES):
            _train(subject, corpus, plan, folder, progress)
    return folder


def _train(subject: Subject, corpus: Corpus, plan: TrainingPlan, folder: Path, progress: Progress) -> None:
    torch.manual_seed(plan.seed)
    sae = _new_sae(subject, plan)
    trainer = SAETrainer(_trainer_config(subject, plan), sae, iter(()))
    checkpoint = folder / "checkpoint"
    blocks_done = _resume(trainer, sae, checkpoint)
    blocks = _blocks(subject, corpus, blocks_done)
    while trainer.n_training_steps < plan.steps:
        block = next(blocks, None)
        if block is None:
            raise UserError(
                f"The corpus {corpus.name!r} ended after {trainer.n_training_samples:,} of {plan.tokens:,} tokens: "
                "ask for fewer tokens or give a larger corpus."
            )
        generator = torch.Generator().manual_seed(plan.seed + blocks_done)
        order = torch.randperm(len(block), generator=generator)
        if trainer.activation_scaler.scaling_factor is None:
            sample = block[order[: NORM_BATCHES * plan.batch]].float()
            trainer.activation_scaler.scaling_factor = subject.d_model**0.5 / float(sample.norm(dim=1).mean())
        for rows in torch.split(order, plan.batch):
            if len(rows) < plan.batch or trainer.n_training_steps >= plan.steps:
                break
            trainer.maybe_reset_sparsity()
            output = trainer.step(block[rows].float())
            trainer.n_training_steps += 1
            if trainer.n_training_steps % 10 == 0:
                variance = float((output.sae_in - output.sae_in.mean(0)).pow(2).sum(1).mean())
                explained = 1 - float(output.losses["mse_loss"].detach()) / variance
                dead = int(trainer.dead_neurons.sum())
                progress(trainer.n_training_samples, plan.tokens, f"explained variance {explained:.3f}, dead {dead}")
        blocks_done += 1
        _save(trainer, checkpoint, blocks_done)
    sae.fold_activation_norm_scaling_factor(float(trainer.activation_scaler.scaling_factor))
    trainer.set_final_sae_metadata()
    finished = folder / "finished"
    sae.save_inference_model(finished)
    _narrow(finished)
    for name in reversed(INFERENCE_FILES):
        (finished / name).replace(folder / name)
    shutil.rmtree(finished)
    shutil.rmtree(checkpoint)


def _blocks(subject: Subject, corpus: Corpus, skip: int) -> Iterator[Tensor]:
    """Activations [n, d_model] of about 262,144 unmasked tokens at a time; the first `skip` blocks are not run."""
    documents = ((i, d) for i, d in enumerate(corpus.documents) if not d.held_out)
    windows = cut_windows(subject, documents)
    block = 0
    while taken := take_tokens(windows, BLOCK_TOKENS):
        if block >= skip:
            yield torch.cat([batch.residual[batch.valid] for batch in forward(subject, taken)])
        block += 1


def _new_sae(subject: Subject, plan: TrainingPlan) -> TrainingSAE:
    common = {
        "d_in": subject.d_model,
        "d_sae": plan.n_latents,
        "k": plan.k,
        "device": str(subject.device),
        "normalize_activations": "expected_average_only_in",
        "decoder_init_norm": 0.1,
        "metadata": SAEMetadata(
            model_name=subject.name,
            hook_name=subject.hook,
            prepend_bos=True,
            k=plan.k,
            training_tokens=plan.tokens,
        ),
    }
    if plan.architecture == "batchtopk":
        return BatchTopKTrainingSAE(BatchTopKTrainingSAEConfig(**common))
    widths = [plan.n_latents // 16, plan.n_latents // 8, plan.n_latents // 4, plan.n_latents // 2, plan.n_latents]
    return MatryoshkaBatchTopKTrainingSAE(MatryoshkaBatchTopKTrainingSAEConfig(matryoshka_widths=widths, **common))


def _trainer_config(subject: Subject, plan: TrainingPlan) -> SAETrainerConfig:
    return SAETrainerConfig(
        total_training_samples=plan.tokens,
        train_batch_size_samples=plan.batch,
        lr=plan.learning_rate,
        lr_end=plan.learning_rate / 10,
        lr_warm_up_steps=int(plan.steps * plan.warm_up),
        lr_decay_steps=int(plan.steps * plan.decay),
        dead_feature_window=min(plan.dead_after, max(1, plan.steps // 10)),
        device=str(subject.device),
        autocast=subject.dtype is torch.bfloat16,
    )


def begun_dtype(folder: Path) -> str | None:
    """The dtype of the training that was begun in `folder`: a later timing must not choose another one."""
    claim = folder / CLAIM
    return str(json.loads(claim.read_text())["dtype"]) if claim.is_file() else None


def _claim(folder: Path, header: Mapping[str, object]) -> None:
    """Makes `folder` this training's own, or refuses when it is another's."""
    make_folder(folder)
    claim = folder / CLAIM
    if claim.exists() and json.loads(claim.read_text()) != json.loads(json.dumps(header)):
        raise UserError(
            f"{folder} holds another training ({claim.name} differs): name another folder or delete this one."
        )
    claim.write_text(json.dumps(header, indent=1) + "\n")


def _save(trainer: SAETrainer, checkpoint: Path, blocks_done: int) -> None:
    """Writes the trainer's state beside the old one, then swaps: one whole checkpoint is always there."""
    part = checkpoint.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    trainer.save_checkpoint(part.name, base_path=part.parent)
    (part / "blocks_done").write_text(str(blocks_done))
    old = checkpoint.with_suffix(".old")
    shutil.rmtree(old, ignore_errors=True)
    if checkpoint.exists():
        checkpoint.rename(old)
    part.rename(checkpoint)
    shutil.rmtree(old, ignore_errors=True)


def _resume(trainer: SAETrainer, sae: TrainingSAE, checkpoint: Path) -> int:
    """Loads the last whole checkpoint, if any, and returns how many blocks it has seen."""
    old = checkpoint.with_suffix(".old")
    if not checkpoint.exists() and old.exists():
        old.rename(checkpoint)
    if not (checkpoint / "blocks_done").exists():
        return 0
    sae.load_weights_from_checkpoint(checkpoint)
    trainer.load_trainer_state(checkpoint)
    return int((checkpoint / "blocks_done").read_text())


def _narrow(folder: Path) -> None:
    """Rewrites the weights in 16-bit floats, half the size; the dictionary is loaded in 32 bits and evaluated so."""
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "sae_weights.safetensors")
    save_file({k: v if k == "threshold" else v.half() for k, v in weights.items()}, folder / "sae_weights.safetensors")
