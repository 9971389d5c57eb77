"""The vision-language navigator: frames and an instruction in, the next actions as text out.

`prompts` and `answers` are the wording, `processor` makes tensors of them, `vlm` holds the model,
`small` makes a small one offline, `agent` walks with it.
"""
