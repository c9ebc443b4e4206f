"""A Llama of two layers and eight dimensions whose weights are written by hand, so that what a patch does is known."""

import torch
from transformer_lens.model_bridge import TransformerBridge
from transformers import LlamaConfig, LlamaForCausalLM

from tests.tools.world import ID, WORDS, Words
from tools.workbench.pairs import Batch
from tools.workbench.subject import Subject

BOS, ON_A, OFF_A, ON_B, OFF_B, END, ANSWER, OTHER = range(8)
COUNT, OUT, CONSTANT = 5, 6, 7  # dimensions of the residual stream
MANY = 100.0  # the last token's constant: so large that the norm does not depend on the rest


def tiny(tokenizer: object, folder: str, vocabulary: int = 8, neurons: int = 4) -> Subject:
    """Every weight is 0; norms pass on their input at mean square 1."""
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=8,
        intermediate_size=neurons,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=4,
        tie_word_embeddings=False,
        architectures=["LlamaForCausalLM"],
    )
    config.save_pretrained(folder)
    model = LlamaForCausalLM(config).eval().requires_grad_(False)
    for name, weight in model.named_parameters():
        weight.fill_(1.0 if "norm" in name else 0.0)
    bridge = TransformerBridge.boot_transformers(folder, hf_model=model, tokenizer=tokenizer, dtype=torch.float32)
    return Subject("tiny", bridge, "blocks.1.hook_resid_pre", None)


def gate(subject: Subject, needs: int) -> Batch:
    """Makes the model answer where at least `needs` of two inputs are on: OR for 1, AND for 2. Clean has both on,
    corrupted has both off.

    Attention is uniform and counts what is on; a neuron begins below `needs` and another takes back what lies above.
    """
    model = subject.model.original_model
    embedding = model.get_input_embeddings().weight
    for token, dimension in ((ON_A, 0), (OFF_A, 1), (ON_B, 0), (OFF_B, 1)):
        embedding[token, dimension] = 1
    embedding[END, CONSTANT] = MANY
    layer = model.model.layers[0]
    layer.self_attn.v_proj.weight[0, 0] = 8**-0.5 * 4  # an input that is on adds one to the mean over four tokens
    layer.self_attn.o_proj.weight[COUNT, 0] = 1
    unit = MANY / 8**0.5  # the norm divides by this
    for neuron, at in ((0, needs - 0.75), (1, needs - 0.25)):
        layer.mlp.gate_proj.weight[neuron, COUNT] = 40 * unit
        layer.mlp.gate_proj.weight[neuron, CONSTANT] = -40 * at / 8**0.5
        layer.mlp.up_proj.weight[neuron, CONSTANT] = 8**-0.5
        layer.mlp.down_proj.weight[OUT, neuron] = 1 if neuron == 0 else -1
    model.lm_head.weight[ANSWER, OUT] = 10
    clean, corrupted = [[BOS, ON_A, ON_B, END]], [[BOS, OFF_A, OFF_B, END]]
    return Batch(*map(torch.tensor, (clean, corrupted, [ANSWER], [OTHER])), first=1, roles={1: "A", 2: "B"})


CONTEXT_ON, GRAM, GATE, SPARE = 2, 3, 4, 6  # dimensions of `in_context`, beside COUNT, which nothing uses there


def in_context(tokenizer: object, folder: str) -> Subject:
    """Says "red" where the text is in context ("all") and holds the n-gram "river bank", and nothing elsewhere.

    Attention counts; neuron 0 of layer 0, the gate, fires in context, neuron 1 always; two neurons of layer 1 make the
    exclusive step: three of context, "river" and "bank". The other neurons do nothing. Prompts have five tokens.
    """
    subject = tiny(tokenizer, folder, len(WORDS), neurons=64)
    subject.tokenizer = Words()
    subject.fingerprint = "in context"
    subject.calibration_tokens = torch.full((2, 8), ID[" cat"])
    model = subject.model.original_model
    embedding = model.get_input_embeddings().weight
    embedding[ID[" all"], 0] = embedding[ID[" river"], 1] = embedding[ID[" bank"], 1] = 1
    embedding[ID[" cat"], CONSTANT] = MANY
    first, second = model.model.layers
    for value, (begin, end) in enumerate(((0, CONTEXT_ON), (1, GRAM))):
        first.self_attn.v_proj.weight[value, begin] = 8**-0.5 * 5  # adds one to the mean over five tokens
        first.self_attn.o_proj.weight[end, value] = 1
    unit = MANY / 8**0.5
    first.mlp.gate_proj.weight[0, CONTEXT_ON] = 40 * unit
    for layer, neuron, at in ((first, 0, 0.5), (first, 1, -0.5), (second, 0, 2.25), (second, 1, 2.75)):
        layer.mlp.gate_proj.weight[neuron, CONSTANT] = -40 * at / 8**0.5
        layer.mlp.up_proj.weight[neuron, CONSTANT] = 8**-0.5
    first.mlp.down_proj.weight[GATE, 0] = first.mlp.down_proj.weight[SPARE, 1] = 1 / 20
    second.mlp.gate_proj.weight[:2, [GATE, GRAM]] = 40 * unit
    second.mlp.down_proj.weight[COUNT, :2] = torch.tensor([1.0, -1.0])
    model.lm_head.weight[ID[" red"], COUNT] = 10
    return subject
