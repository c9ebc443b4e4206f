"""Load a subject: a model, and a dictionary from a SAELens release or a folder, checked on arrival.

`load_subject` does both; `with_dictionary` gives the same model once more, with another dictionary.
"""

import warnings
from pathlib import Path
from time import perf_counter
from zipfile import BadZipFile

import torch
from safetensors import SafetensorError
from torch import Tensor

from store.disk import expanded
from store.errors import UserError
from store.types import slug
from tools.dictionaries.formats import GEMMA_SCOPE, SAELENS, SPARSIFY, gemma_scope, sparsify
from tools.workbench import embedded
from tools.workbench.adapters import Adapter
from tools.workbench.boot import boot
from tools.workbench.dictionary import Dictionary
from tools.workbench.subject import Subject

EMBEDDED_DICTIONARY = "l15-4608"
SHIPPED = Path(__file__).parent / "embedded"  # a folder for each dictionary that needs no download
UNREADABLE = (OSError, ValueError, KeyError, RuntimeError, EOFError, BadZipFile, SafetensorError)


def load_subject(
    model: str = embedded.NAME,
    dictionary: str | None = EMBEDDED_DICTIONARY,
    hook: str | None = None,
    device: str | None = None,
    dtype: str | None = None,
    adapter: Adapter | None = None,
) -> Subject:
    """The subject, ready to run.

    model: the embedded name, a hub name or a folder. dictionary: the embedded name, a folder (SAELens, sparsify or
    Gemma Scope), "release:id" of SAELens' list, or None for none (then `hook` is needed). device: "cuda", "cpu", ...,
    by default CUDA if there is one. dtype: "float32" or "bfloat16", by default the faster one on that device. adapter:
    a LoRA that is merged into the model.
    Raises UserError, in one sentence, for anything unknown or that does not fit together.
    """
    where = _device(device)
    precision = _dtype(dtype, where)
    loaded = load_dictionary(dictionary, where, precision, hook) if dictionary else None
    folder = embedded.model_folder() if model == embedded.NAME else model
    bridge = boot(model, folder, where, precision, adapter)
    name = Path(model).resolve().name if Path(model).is_dir() else model
    return _arrived(Subject(name, bridge, str(loaded.hook if loaded else hook), loaded, adapter))


def with_dictionary(subject: Subject, dictionary: str) -> Subject:
    """The same model with another dictionary, named as in `load_subject`, at the hook point that it states.

    UserError for one that is unknown or does not fit.
    """
    loaded = load_dictionary(dictionary, subject.device, subject.dtype)
    return _arrived(Subject(subject.bare, subject.model, loaded.hook, loaded, subject.adapter))


def _arrived(subject: Subject) -> Subject:
    """The subject, if it has its hook point and the dictionary fits there."""
    if subject.hook not in subject.points or not subject.hook.startswith("blocks."):
        raise UserError(
            f"{subject.name} has no hook point {subject.hook!r}: name one such as blocks.15.hook_resid_pre, "
            f"with a block from 0 to {subject.n_layers - 1}."
        )
    if subject.has_dictionary:
        check(subject)
    return subject


def load_dictionary(name: str, device: torch.device, dtype: torch.dtype, hook: str | None = None) -> Dictionary:
    """The dictionary called `name` (see `load_subject`), decoder rows folded to norm 1 where that can be done."""
    from sae_lens import SAE
    from sae_lens.loading.pretrained_sae_loaders import sae_lens_disk_loader

    loaders = {SAELENS: sae_lens_disk_loader, SPARSIFY: sparsify, GEMMA_SCOPE: gemma_scope}
    precision = str(dtype).removeprefix("torch.")
    shipped = sorted(folder.name for folder in SHIPPED.iterdir())
    folder = SHIPPED / name if name in shipped else expanded(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            if folder.is_dir():
                loader = next((load for file, load in loaders.items() if (folder / file).exists()), None)
                if loader is None:
                    raise UserError(f"{folder} holds no dictionary: it must have one of {', '.join(loaders)}.")
                sae = SAE.load_from_disk(folder, device=str(device), dtype="float32", converter=loader)
            elif ":" in name:
                release, sae_id = name.split(":", 1)
                sae = SAE.from_pretrained(release, sae_id, device=str(device), dtype="float32")
            else:
                raise UserError(
                    f"There is no dictionary {name!r}: name {' or '.join(map(repr, shipped))}, a folder, "
                    "or release:id of SAELens' list."
                )
        except UNREADABLE as error:
            reason = str(error).strip().splitlines()[0]
            raise UserError(
                f"Could not load the dictionary {name!r} ({reason}): check the folder or the release:id."
            ) from None
    metadata, architecture = sae.cfg.metadata, sae.cfg.architecture()
    point = hook or metadata.hook_name
    if not point:
        raise UserError(f"The dictionary {name!r} does not say where it was trained: give its hook point with --hook.")
    if architecture != "topk":
        sae.fold_W_dec_norm()
    loaded = Dictionary(
        name=slug(name.replace(":", "--")),
        sae=sae.to(dtype=getattr(torch, precision)).requires_grad_(False),
        hook=point,
        stated_l0=getattr(sae.cfg, "k", None) or metadata.k or metadata.l0,
        trained_on=metadata.model_name,
        gives=metadata.hook_name_out,
    )
    if folder.is_dir() and name not in shipped:  # folders share their last name: average_l0_82 of every layer
        loaded.name = f"{slug(folder.resolve().name)}-{loaded.fingerprint[:6]}"
    return loaded


def check(subject: Subject) -> tuple[float, float]:
    """Explained variance and L0 on 2,048 tokens, sinks masked; refuses a dictionary that does not fit the model.

    A transcoder must explain the MLP's output. Raises UserError when the widths differ, the explained variance is
    negative, or L0 is off its stated value by more than a factor of 2: wrong layer, wrong site, missing BOS or
    normalisation all show up so (Gemma Scope, 2408.05147, and the massive activations of 2402.17762).
    """
    dictionary = subject.dictionary
    place = f"{subject.hook} of {subject.name}"
    residual = subject.calibration
    if residual.shape[-1] != dictionary.d_model:
        raise UserError(
            f"The dictionary {dictionary.name!r} reads {dictionary.d_model} numbers but {place} gives "
            f"{residual.shape[-1]}: name a dictionary of this model and hook point."
        )
    target, valid = targets(subject, subject.calibration_tokens, residual, ~subject.sinks(residual))
    if target.shape[-1] != dictionary.d_out:
        raise UserError(
            f"The transcoder {dictionary.name!r} gives {dictionary.d_out} numbers but {subject.hook_out} of "
            f"{subject.name} has {target.shape[-1]}: name a transcoder of this model and layer."
        )
    kept = residual[valid]
    explained = explained_variance(target[valid], dictionary.reconstruct(kept))
    l0 = float((dictionary.encode(kept) > 0).sum(-1).float().mean())
    stated = dictionary.stated_l0
    if explained < 0:
        raise UserError(
            f"The dictionary {dictionary.name!r} explains {explained:.2f} of the variance at {subject.hook_out} of "
            f"{subject.name}, worse than a constant: it was probably trained on another layer, hook point or model; "
            "name the right one."
        )
    if stated and not stated / 2 <= l0 <= stated * 2:
        raise UserError(
            f"The dictionary {dictionary.name!r} has {l0:.0f} active latents a token at {place} but states "
            f"{stated:.0f}: probably the layer, the hook point or the input's scale is wrong; name the right one."
        )
    return explained, l0


def targets(subject: Subject, tokens: Tensor, residual: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """[b, s, d_out], what the dictionary should give where it reads `residual`, and bool[b, s]: `valid`, less the sinks
    that a transcoder's normed input does not show."""
    if not subject.dictionary.is_transcoder:
        return residual, valid
    hook = subject.hook_out
    if hook not in subject.points:
        raise UserError(f"{subject.name} has no hook point {hook}, which {subject.dictionary.name!r} should give.")
    target = subject.value_at(hook, tokens).flatten(2)
    return target, valid & ~subject.sinks(target, float(target[valid].float().norm(dim=-1).median()))


def explained_variance(x: Tensor, reconstruction: Tensor) -> float:
    """1 - sum |x - x'|^2 / sum |x - mean x|^2 over [n, d] (SAEBench 2503.09532, the corrected formula)."""
    x, reconstruction = x.double(), reconstruction.double()
    return float(1 - (x - reconstruction).pow(2).sum() / (x - x.mean(0)).pow(2).sum())


def _device(name: str | None) -> torch.device:
    """The named device, or CUDA if there is one; UserError when it cannot hold a tensor."""
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"The device {name!r} cannot be used ({reason}): name cpu, or cuda where there is one."
        ) from None
    return device


def _dtype(name: str | None, device: torch.device) -> torch.dtype:
    """The named dtype, or the faster of bfloat16 and float32 on this device, timed on one matrix product."""
    if name in ("float32", "bfloat16"):
        return torch.float32 if name == "float32" else torch.bfloat16
    if name is not None:
        raise UserError(f"There is no dtype {name!r}: name float32 or bfloat16.")
    if device.type == "cuda":
        return torch.bfloat16
    seconds = {}
    for dtype in (torch.float32, torch.bfloat16):
        a, b = torch.ones(512, 576, dtype=dtype), torch.ones(576, 1536, dtype=dtype)
        a @ b
        start = perf_counter()
        for _ in range(3):
            a @ b
        seconds[dtype] = perf_counter() - start
    return min(seconds, key=lambda dtype: seconds[dtype])
