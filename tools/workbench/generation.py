"""Generation with edits: what follows a prompt, every token of it computed once."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tools.workbench.editing import Change, hooks, sparing, watching
from tools.workbench.subject import Splice, Subject, finite, spliced


def generate(
    subject: Subject,
    tokens: Tensor,
    n: int,
    changes: Sequence[Change] = (),
    temperature: float = 0.0,
    seed: int = 0,
    lengths: Sequence[int] | None = None,
    also: Sequence[Splice] = (),
) -> Tensor:
    """int64[b, s + up to n]: the prompts [b, s] and what follows them, the changes and `also` made in every token.

    lengths: of each prompt, which is padded on the right with anything (None: s); what follows begins at s all the
    same. No token sees the padding, and positions count on from a prompt's own length.

    Temperature 0 takes the likeliest token, ties aside the same on every device; otherwise `seed` decides, alike
    in each block of rows that the changes write along another direction in. A row that ended is filled with the end
    token. Keys and values are cached: each token is computed once.
    """
    text = tokens.to(subject.device)
    prompt = text.shape[1]
    blocks = max((change.rows for change in changes), default=1)
    generators = [torch.Generator().manual_seed(seed) for _ in range(blocks)]
    own = torch.tensor([prompt] * len(text) if lengths is None else list(lengths), device=subject.device)
    visible = torch.arange(prompt, device=subject.device) < own[:, None]  # bool[b, s and what was written]
    rows = torch.arange(len(text), device=subject.device)
    ended = torch.zeros(len(text), dtype=torch.bool, device=subject.device)
    cache: Any = None
    plain: Any = None  # the cache of the same text, unedited
    layers = sparing(changes)
    for _ in range(n):
        start = 0 if cache is None else text.shape[1] - 1
        seen: dict[str, Any] = {}
        last_at = own - 1  # no token of a prompt sees the padding after it: attention is causal
        if cache is not None:
            last_at = torch.zeros_like(own)
            seen = {"attention_mask": visible.long(), "position_ids": (own + start - prompt)[:, None]}
        sinks: dict[int, Tensor] | None = None
        if layers:
            sinks = {}
            with torch.no_grad():
                _, plain = subject.model.run_with_hooks(
                    text[:, start:],
                    return_type="logits_and_cache",
                    fwd_hooks=watching(subject, layers, sinks, start),
                    use_cache=True,
                    **seen,
                    **subject.keeping(1),
                    **({"past_key_values": plain} if plain is not None else {}),
                )
        ends, at = torch.unique(last_at, return_inverse=True)
        less = subject.keeping(ends)
        with torch.no_grad():
            logits, cache = subject.model.run_with_hooks(
                text[:, start:],
                return_type="logits_and_cache",
                fwd_hooks=[*hooks(subject, changes, prompt, start, sinks=sinks), *spliced(also)],
                use_cache=True,
                **seen,
                **less,
                **({"past_key_values": cache} if cache is not None else {}),
            )
        last = finite(logits[rows, at if less else last_at].float(), bool(changes)).cpu()
        if temperature > 0:
            chances = (last / temperature).softmax(-1).chunk(blocks)
            drawn = [torch.multinomial(p, 1, generator=g) for p, g in zip(chances, generators, strict=True)]
            chosen = torch.cat(drawn)[:, 0]
        else:
            chosen = last.argmax(-1)
        chosen = torch.where(ended, subject.eos, chosen.to(subject.device))
        text = torch.cat([text, chosen[:, None]], dim=1)
        visible = torch.cat([visible, torch.ones_like(visible[:, :1])], dim=1)
        ended |= chosen == subject.eos
        if bool(ended.all()):
            break
    return text
