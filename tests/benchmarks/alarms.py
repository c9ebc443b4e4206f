"""How often a random direction is called clear of other random directions: python -m tests.benchmarks.alarms"""

from pydoc_data.topics import topics

import numpy as np
import torch

from tools.dictionaries.load import load_subject
from tools.workbench.causal import outweighs, stands_clear
from tools.workbench.editing import Change
from tools.workbench.metrics import single_tokens

DIRECTIONS, DRAWS, STRENGTH = 50, 600, 60.0
PROMPTS, TOKENS = 12, 16


def main() -> None:
    """Prints false alarms in per cent, for numbers of prompts and of controls."""
    subject = load_subject(dtype="float32")
    rows = [[subject.bos, *subject.tokenize([topics[key][200:600]])[0][: TOKENS - 1]] for key in sorted(topics)[::6]]
    tokens = torch.tensor([row for row in rows if len(row) == TOKENS][:PROMPTS])
    up, down = single_tokens(subject, (" good", " bad"))
    layer, shape = subject.layer_of(subject.hook), (subject.d_model,)

    def read(changes: list[Change]) -> tuple[torch.Tensor, np.ndarray]:
        logits = subject.logits(tokens, changes).double()
        metric: np.ndarray = (logits[:, -1, up] - logits[:, -1, down]).numpy()
        return logits[:, 1:].log_softmax(-1), metric

    before, plain = read([])
    generator = torch.Generator().manual_seed(0)
    kl, metric = np.zeros((2, DIRECTIONS, PROMPTS)), np.zeros((DIRECTIONS, PROMPTS))
    for i in range(DIRECTIONS):
        vector = torch.randn(shape, generator=generator)
        after, value = read([Change(subject.hook, layer, shape, "add", STRENGTH, write=vector / vector.norm())])
        each = (before.exp() * (before - after)).sum(-1).clamp(min=0)
        kl[:, i], metric[i] = np.stack([each[:, -1], each.mean(-1)]), value - plain
    rng = np.random.default_rng(0)
    for n in (6, 12):
        for controls in (1, 3, 9):
            alarms = np.zeros(3)
            for _ in range(DRAWS):
                first, *others = rng.permutation(DIRECTIONS)[: controls + 1]
                at = rng.permutation(PROMPTS)[:n]
                alarms[:2] += [outweighs(which[first][at], [which[i][at] for i in others]) for which in kl]
                alarms[2] += stands_clear(metric[first][at], [metric[i][at] for i in others])
            last, text, other = alarms / DRAWS
            print(f"{n} prompts, {controls} controls: KL last {last:.1%}, KL text {text:.1%}, metric {other:.1%}")


if __name__ == "__main__":
    main()
