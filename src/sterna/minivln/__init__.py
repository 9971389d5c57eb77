"""MiniVLN: distillation of a DUET teacher into a small student."""
