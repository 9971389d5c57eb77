"""VLN-R1: rewards and objective of GRPO, for answers of a language model and for walks."""
