"""A tokenizer of one's own for small navigators, made offline: byte-level BPE, few tokens a word.

It is trained on the words of the houses' grammar and of the short prompts, so that each of them is
one token; anything else falls into pieces, down to bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, trainers
from tokenizers import pre_tokenizers as splits

from sterna.world.houses.language.vocabulary import vocabulary
from sterna.world.talk.answers import WORDS
from sterna.world.talk.reading import Template

PAD, END, IMAGE_TOKEN = "<|pad|>", "<|end|>", "<|image|>"
SMALL_TEMPLATE = Template(
    end=END, image=IMAGE_TOKEN, image_start=IMAGE_TOKEN, image_end=IMAGE_TOKEN, pad=PAD
)
"""Nothing stands around a prompt; images have no marks (`ImageConfig.marks` must be False)."""
_PROMPT = ("seen", "now", "did", "next", "none", "degrees", "cm", "TV", "A", "B", "C", "D")
_LARGEST = 8192


def make_tokenizer(extra: Iterable[str] = ()) -> Tokenizer:
    """Train a tokenizer on the grammar's words, the prompt's, and those of `extra` texts.

    The same words give the same tokenizer. Every word, and every word with a capital, becomes one
    token together with the blank before it.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = splits.ByteLevel(add_prefix_space=True, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=_LARGEST,
        min_frequency=1,
        show_progress=False,
        special_tokens=[AddedToken(text, special=True) for text in (PAD, END, IMAGE_TOKEN)],
        initial_alphabet=sorted(splits.ByteLevel.alphabet()),
    )
    tokenizer.train_from_iterator(_words(extra), trainer)
    return tokenizer


def _words(extra: Iterable[str]) -> Sequence[str]:
    words = {*vocabulary(), *WORDS.values(), *_PROMPT}
    for text in extra:
        words.update(text.split())
    return sorted(words | {word.capitalize() for word in words})


def token_texts(tokenizer: Tokenizer) -> list[str]:
    """Return the text of every token, by number; special ones in brackets."""
    texts = []
    for number in range(tokenizer.get_vocab_size()):
        text = tokenizer.decode([number], skip_special_tokens=False).strip()
        texts.append(f"[{text}]" if text in (PAD, END, IMAGE_TOKEN) else text)
    return texts
