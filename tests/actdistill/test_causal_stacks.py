"""Decoders of several families, as a user brings them: words as actions, or a head of one's own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import contract
from sterna.actdistill.adapters.causal import CausalStack, DecoderBatch
from sterna.actdistill.stack import Chunk, act, everything, gated, stack_of
from sterna.errors import InputError
from sterna.models.llama_vla.heads import ChunkHead

SIZES = {"vocab_size": 60, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4,
         "num_attention_heads": 4, "num_key_value_heads": 2}  # fmt: skip


def decoder(family: str) -> Any:
    import transformers

    more: dict[str, Any] = {"head_dim": 8} if family in ("Gemma2", "Qwen3") else {}
    if family == "Gemma2":  # every second layer attends to a window
        more |= {"sliding_window": 4}
    config = getattr(transformers, f"{family}Config")(**SIZES, **more)
    torch.manual_seed(0)
    model = getattr(transformers, f"{family}ForCausalLM")(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 2:
                weight.mul_(4.0)
    return model


def batch_of(count: int = 3, words: int = 3) -> DecoderBatch:
    g = torch.Generator().manual_seed(0)
    ids = torch.randint(0, 40, (count, 7), generator=g)
    prompt = torch.arange(7) >= torch.tensor([0, 2, 1])[:count, None]
    vision = prompt & (torch.arange(7) < 4)
    return DecoderBatch(
        inputs={"input_ids": ids, "attention_mask": prompt.long()},
        prompt=prompt,
        vision=vision,
        actions=torch.randint(50, 60, (count, words), generator=g),
    )


def _tokens(features: Any) -> list[Tensor]:
    return [features.x]


@pytest.mark.parametrize("family", ["Llama", "Gemma2", "Qwen3"])
def test_words_as_actions(family: str) -> None:
    model, batch = decoder(family), batch_of()
    stack = stack_of(model, words=(50, 10), slots=3)
    assert isinstance(stack, CausalStack)
    contract.check(stack, batch, _tokens)
    assert batch.actions is not None
    ids = torch.cat([batch.inputs["input_ids"], batch.actions[:, :-1]], 1)
    mask = torch.cat([batch.inputs["attention_mask"], torch.ones(3, 2, dtype=torch.long)], 1)
    with torch.no_grad():
        passed = gated(stack, stack.prepare(batch), everything(stack), skip=True)
        whole = model(input_ids=ids, attention_mask=mask, output_hidden_states=True)
        assert torch.equal(stack.finish(passed.state).x, whole.hidden_states[-1])
        said, (gates,) = act(stack, batch, contract.by_turns(stack))
        # Read anew, without a cache, each word is the likeliest of the words that are actions.
        again = replace(batch, actions=said)
        state = gated(stack, stack.prepare(again), lambda p, s: gates, skip=True).state
        logits = model.get_output_embeddings()(stack.finish(state).x[:, -3:])[..., 50:60]
    assert torch.equal(logits.argmax(-1) + 50, said)


def test_a_head_of_ones_own() -> None:
    batch = replace(batch_of(), actions=torch.rand(3, 2, 2))
    stack = stack_of(decoder("Llama"), head=ChunkHead(32, 2, 2), kind=Chunk(steps=2, size=2))
    contract.check(stack, batch, _tokens)
    chunks, _ = act(stack, batch, everything(stack))
    assert chunks.shape == (3, 2, 2)


def test_what_it_refuses() -> None:
    model = decoder("Llama")
    with pytest.raises(InputError, match="say how actions are read"):
        stack_of(model)
    stack = stack_of(model, words=(50, 10), slots=3)
    batch = batch_of()
    right = replace(batch, prompt=batch.prompt.flip(1))
    with pytest.raises(InputError, match="pad on the left"):
        stack.prepare(right)
    with pytest.raises(InputError, match="has 0 decoders"):
        from transformers import GPT2Config, GPT2LMHeadModel

        stack_of(
            GPT2LMHeadModel(GPT2Config(n_layer=1, n_embd=8, n_head=1, vocab_size=9)), words=(1, 2)
        )
