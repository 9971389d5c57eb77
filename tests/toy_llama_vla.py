"""Small vision-language-action models and batches for them, made in a moment."""

from __future__ import annotations

from typing import Any

import torch

from sterna.actdistill.adapters.pi0 import Pi0Batch
from sterna.models.llama_vla.model import LlamaVla, LlamaVlaBatch, LlamaVlaConfig


def vla(head: str, *, layers: int = 4, seed: int = 0, **sizes: Any) -> LlamaVla:
    torch.manual_seed(seed)
    small = {"width": 32, "heads": 4, "ffn": 48, "side": 16, "patch": 8, "steps": 2, "size": 2}
    model = LlamaVla(LlamaVlaConfig(head=head, layers=layers, bins=8, **small | sizes))  # type: ignore[arg-type]
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 2:
                weight.mul_(3.0)
    return model.eval()


def vla_batch(
    count: int = 3, *, seed: int = 0, side: int = 16, steps: int = 2, size: int = 2
) -> Any:
    g = torch.Generator().manual_seed(seed)
    lengths = torch.arange(count) % 3 + 3
    return LlamaVlaBatch(
        images=torch.rand(count, 3, side, side, generator=g),
        ids=torch.randint(0, 100, (count, 5), generator=g),
        mask=torch.arange(5) < lengths[:, None],
        actions=torch.rand(count, steps, size, generator=g) * 2 - 1,
    )


def pi0(layers: int = 3) -> Any:
    from transformers import PI0Config, PI0ForConditionalGeneration

    text = {"model_type": "gemma", "hidden_size": 32, "num_hidden_layers": layers,
            "intermediate_size": 48, "num_attention_heads": 2, "num_key_value_heads": 1,
            "head_dim": 16, "vocab_size": 64}  # fmt: skip
    vision = {"model_type": "siglip_vision_model", "hidden_size": 16, "intermediate_size": 24,
              "patch_size": 8, "image_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
              "vision_use_head": False}  # fmt: skip
    config = PI0Config(
        vlm_config={"model_type": "paligemma", "text_config": text, "vision_config": vision,
                    "projection_dim": 32, "image_token_id": 63},
        dit_config=text | {"hidden_size": 16, "intermediate_size": 24},
        chunk_size=3, max_state_dim=4, max_action_dim=2, num_inference_steps=3,
    )  # fmt: skip
    torch.manual_seed(0)
    model = PI0ForConditionalGeneration(config)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 2:
                weight.mul_(4.0)
    return model.eval()


def pi0_batch(config: Any, count: int = 3) -> Pi0Batch:
    g = torch.Generator().manual_seed(0)
    ids = torch.randint(0, 60, (count, 9), generator=g)
    ids[:, :4] = 63  # 2 x 2 tokens of one camera
    mask = (torch.arange(9) < torch.tensor([9, 8, 7])[:count, None]).long()
    batch = Pi0Batch(
        state=torch.randn(count, 4, generator=g),
        input_ids=ids,
        pixel_values=torch.rand(count, 1, 3, 16, 16, generator=g),
        pixel_attention_mask=torch.ones(count, 1, dtype=torch.bool),
        attention_mask=mask,
        actions=torch.randn(count, 3, 2, generator=g),
    )
    return batch.drawn(config, 0)
