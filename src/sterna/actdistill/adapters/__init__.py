"""Stacks of the models that ActDistill knows; each file registers one kind (`stack.register`)."""

from sterna.actdistill.adapters import vla as vla
