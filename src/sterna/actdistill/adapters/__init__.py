"""Stacks of the models that ActDistill knows; each file registers one kind (`stack.register`)."""

# The one for decoders of any kind comes first: those that know more win.
from sterna.actdistill.adapters import causal as causal
from sterna.actdistill.adapters import duet as duet
from sterna.actdistill.adapters import llama_vla as llama_vla
from sterna.actdistill.adapters import navigator as navigator
from sterna.actdistill.adapters import pi0 as pi0
from sterna.actdistill.adapters import vla as vla
