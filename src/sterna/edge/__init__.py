"""From a checkpoint to a small computer: export, and a runtime that needs no torch.

`sterna.edge.runtime` stands alone: numpy, onnxruntime, tokenizers. The rest of the room needs
torch, and for writing graphs the extra ``sterna[export]``.
"""
