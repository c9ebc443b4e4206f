"""What behaviours cost to measure: python -m tests.benchmarks.behaviours [--prompts N] [--tokens N]

writing: replies to prompts of different length written at once, padded, beside one by one with the same cache, in
processor seconds; how many are the same, token by token. One in `--every` is written alone, since that is slow.
"""

import argparse
import json
from time import process_time

from tools.dictionaries.load import load_subject
from tools.workbench.subject import Subject
from tools.workbench.writing import Turn, conversation, written

THINGS = ("apple", "river", "stone", "cloud", "lamp", "garden", "window", "letter", "music", "bread", "ocean", "forest")
FRAMES = ("What is a {}?", "Tell me something about the {} that most people do not know.", "Describe one {}, briefly.")


def writing(subject: Subject, n: int, tokens: int, every: int) -> dict[str, object]:
    asked = [FRAMES[i % len(FRAMES)].format(THINGS[i % len(THINGS)]) for i in range(n)]
    prompts = [conversation(subject, [Turn("user", text)]) for text in asked]
    alone = range(0, n, every)
    written(subject, prompts[:1], 1)  # the first pass is slower
    begun = process_time()
    together = written(subject, prompts, tokens)
    middle = process_time()
    single = [written(subject, [prompts[i]], tokens)[0] for i in alone]
    end = process_time()
    rates = [sum(map(len, texts)) / seconds for texts, seconds in ((together, middle - begun), (single, end - middle))]
    return {
        "prompts": n,
        "lengths": sorted({len(ids) for ids in prompts}),
        "tokens_per_s_together": round(rates[0], 1),
        "tokens_per_s_alone": round(rates[1], 1),
        "ratio": round(rates[0] / rates[1], 1),
        "same": sum(text == together[i] for i, text in zip(alone, single, strict=True)),
        "of": len(single),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=48)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--every", type=int, default=6)
    arguments = parser.parse_args()
    subject = load_subject(dtype="float32")
    print(json.dumps({"writing": writing(subject, arguments.prompts, arguments.tokens, arguments.every)}))


if __name__ == "__main__":
    main()
