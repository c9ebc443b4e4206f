"""Ways of drawing out what a model hides: whether each looks from outside or from inside."""

from typing import Literal

METHODS: dict[str, Literal["black-box", "white-box"]] = {  # the strongest for its cost first
    "prefill_attack": "black-box",
    "user_persona": "black-box",
    "sampling": "black-box",
    "logit_lens_secret": "white-box",
    "adversarial_prompts": "black-box",
    "latent_secret": "white-box",
    "embedding_similarity": "white-box",
    "forced_tokens": "black-box",
}
