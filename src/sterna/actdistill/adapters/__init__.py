"""Stacks of the models that ActDistill knows; each file registers one kind (`stack.register`)."""

from sterna.actdistill.adapters import duet, navigator, pi0, vla

__all__ = ["duet", "navigator", "pi0", "vla"]
