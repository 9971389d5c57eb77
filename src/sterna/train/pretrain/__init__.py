"""DUET's pre-training: masked words, masked regions, single actions, object grounding."""
