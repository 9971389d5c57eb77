"""What the navigator must do whatever its weights: fusion, padding, masks, objects, details."""

from __future__ import annotations

import pytest
import torch

from sterna.models.duet import DUET, fuse
from sterna.models.panorama import token_order
from toy_duet import CONFIG, Batch, make_batch, make_model, run

INF = float("-inf")


def test_fusion_by_hand() -> None:
    """Trap 4: slots STOP, near (candidate), far, seen (candidate, visited), padding."""
    nodes = torch.tensor([[0.5, 1.0, 2.0, INF, INF], [0.1, 0.2, 0.3, 0.4, 0.5]])
    slots = torch.tensor([[0.25, 10.0, 100.0, 7.0], [1.0, 2.0, 3.0, 4.0]])
    candidates = torch.tensor([[1, 3, 0], [2, 4, 1]])
    visited = torch.tensor([[False, False, False, True, False], [False] * 5])
    found = fuse(nodes, slots, candidates, visited)
    wanted = [[0.75, 11.0, 102.0, INF, INF], [1.1, 4.2, 2.3, 0.4, 3.5]]
    torch.testing.assert_close(found, torch.tensor(wanted))


def test_fusion_has_no_gradient_from_padding() -> None:
    slots = torch.zeros(1, 3, requires_grad=True)
    nodes = torch.tensor([[0.0, 1.0, INF]], requires_grad=True)
    fuse(nodes, slots, torch.tensor([[1, 0]]), torch.zeros(1, 3, dtype=torch.bool)).logsumexp(
        1
    ).sum().backward()
    assert slots.grad is not None and nodes.grad is not None
    assert torch.isfinite(nodes.grad).all() and slots.grad[0, 2] == 0 and slots.grad[0, 1] > 0


def test_masks() -> None:
    """Trap 6: visited and padded nodes are -inf, STOP and open nodes never are."""
    b = make_batch()
    out = run(make_model(), b)
    closed = b["visited"] | ~b["node_mask"]
    for logits in (out.fused, out.global_):
        assert torch.equal(logits == INF, closed)
        assert torch.isfinite(logits[~closed]).all()
    assert torch.equal(out.local[:, 1:] == INF, b["candidates"] == 0)
    assert ((out.fuse_weight > 0) & (out.fuse_weight < 1)).all()


def test_stop_token_sees_only_its_place() -> None:
    """Trap 3: the image part of STOP is zero in both encoders."""
    model, b = make_model(), make_batch()
    x = model.local_encoder.inputs(torch.randn(3, 6, 24), b["positions"])
    torch.testing.assert_close(x[:, 0], model.local_encoder.vp_pos_embeddings(b["positions"][:, 0]))
    x = model.global_encoder.inputs(b["node_features"], b["node_steps"], b["node_positions"])
    places = model.global_encoder.gmap_pos_embeddings(b["node_positions"][:, 0])
    torch.testing.assert_close(
        x[:, 0], places + model.global_encoder.gmap_step_embeddings.weight[0]
    )


def test_positions_may_end_after_the_candidates() -> None:
    model, b = make_model(), make_batch()
    full = run(model, b)
    short = run(model, {**b, "positions": b["positions"][:, :4]})
    torch.testing.assert_close(short.fused, full.fused, rtol=0, atol=1e-6)


def alone(b: Batch, row: int) -> Batch:
    """One row without any padding."""
    words, views = int(b["words"][row].sum()), int(b["views"][row].sum())
    nodes, slots = int(b["node_mask"][row].sum()), int((b["candidates"][row] > 0).sum())
    cut = {name: value[row : row + 1] for name, value in b.items()}
    for name in ("ids", "words"):
        cut[name] = cut[name][:, :words]
    for name in ("features", "locations", "kinds", "views"):
        cut[name] = cut[name][:, :views]
    cut["positions"] = cut["positions"][:, : 1 + views]
    cut["candidates"] = cut["candidates"][:, :slots]
    for name in ("node_features", "node_steps", "node_positions", "node_mask", "visited"):
        cut[name] = cut[name][:, :nodes]
    cut["node_distances"] = cut["node_distances"][:, :nodes, :nodes]
    return cut


@pytest.mark.parametrize("row", [0, 1, 2])
def test_batch_and_padding_change_nothing(row: int) -> None:
    """Trap 5."""
    model, b = make_model(), make_batch()
    together, single = run(model, b), run(model, alone(b, row))
    nodes = single.fused.shape[1]
    torch.testing.assert_close(together.fused[row, :nodes], single.fused[0], rtol=0, atol=1e-5)
    slots = single.local.shape[1]
    torch.testing.assert_close(together.local[row, :slots], single.local[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("objects", [False, True])
def test_a_decision_needs_no_padding_and_no_idle_tokens(*, objects: bool) -> None:
    """`decide` gives the same logits and the same gradients."""
    model, b = make_model(object_size=8 if objects else None), make_batch()
    mask = torch.zeros(3, 7, dtype=torch.bool)
    mask[0, 5:] = True
    grads = []
    for decide in (False, True):
        out = run(model, b, decide=decide, object_mask=mask if objects else None)
        model.zero_grad()
        loss = out.fused[torch.isfinite(out.fused)].square().sum()
        if objects:
            assert out.object_logits is not None
            loss = loss + out.object_logits[mask].sum()
        loss.backward()
        grads.append({k: p.grad.clone() for k, p in model.named_parameters() if p.grad is not None})
        closed = b["visited"] | ~b["node_mask"]
        assert not decide or (out.node_embeds[closed] == 0).all()
    whole, short = (
        run(model, b, decide=decide, object_mask=mask if objects else None)
        for decide in (False, True)
    )
    for name in ("fused", "global_", "local", "fuse_weight"):
        torch.testing.assert_close(getattr(short, name), getattr(whole, name), rtol=0, atol=1e-5)
    assert grads[0].keys() == grads[1].keys()
    for name, grad in grads[0].items():
        torch.testing.assert_close(grads[1][name], grad, rtol=1e-4, atol=1e-4)


def test_scores_do_not_depend_on_padding() -> None:
    """Trap 16's ground: details carry no mask, so valid pairs are the same in any batch."""
    model, b = make_model(), make_batch()
    together, single = run(model, b, details=True), run(model, alone(b, 2), details=True)
    for name in ("global_scores", "local_scores"):
        for wide, tight in zip(getattr(together, name), getattr(single, name), strict=True):
            n = tight.shape[-1]
            torch.testing.assert_close(wide[2, :, :n, :n], tight[0], rtol=0, atol=1e-4)
            assert wide.abs().max() < 5000


def test_details_and_training_paths_agree() -> None:
    model, b = make_model(dropout=0.0, feature_dropout=0.0), make_batch()
    with torch.no_grad():
        fused = run(model, b).fused
    model.train()
    plain, detailed = run(model, b).fused, run(model, b, details=True)
    torch.testing.assert_close(plain, fused, rtol=0, atol=2e-6)
    assert torch.equal(plain, detailed.fused)
    assert len(detailed.global_hidden) == len(detailed.local_scores) == CONFIG.cross_layers


def test_equal_weights_give_equal_details() -> None:
    """Trap 13's ground: a student with the teacher's weights has the teacher's tensors."""
    one, b = make_model(), make_batch()
    two = DUET(CONFIG).eval()
    two.load_state_dict(one.state_dict())
    with torch.no_grad():
        a, c = run(one, b, details=True), run(two, b, details=True)
        text = [m.encode_text(b["ids"], b["words"], details=True) for m in (one, two)]
    for name in ("global_scores", "global_hidden", "local_scores", "local_hidden"):
        assert all(map(torch.equal, getattr(a, name), getattr(c, name)))
    assert all(map(torch.equal, text[0].scores, text[1].scores))
    assert text[0].embedding is not None and text[1].embedding is not None
    assert torch.equal(text[0].embedding, text[1].embedding)


def test_text_rows_are_gathered_and_their_gradients_added() -> None:
    model, b = make_model(), make_batch()
    index = torch.tensor([2, 0, 1, 0])
    rows = {name: value[index] for name, value in b.items()}
    text = model.encode_text(b["ids"], b["words"])
    assert text.rows(None) is text
    gathered = run(model, rows, text=text.rows(index)).fused
    repeated = run(model, rows).fused
    torch.testing.assert_close(gathered, repeated, rtol=0, atol=1e-6)
    weight = model.embeddings.word_embeddings.weight
    open_ = gathered != INF
    found = torch.autograd.grad(gathered[open_].square().sum(), weight)[0]
    wanted = torch.autograd.grad(repeated[open_].square().sum(), weight)[0]
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_every_parameter_learns() -> None:
    model, b = make_model(), make_batch()
    model.train()
    run(model, b).fused[:, 0].sum().backward()
    idle = {name for name, p in model.named_parameters() if p.grad is None}
    assert idle == set()


def test_objects_follow_their_own_views() -> None:
    kinds = torch.tensor([[1, 0, 0, 2, 2], [1, 2, 2, 2, 0], [1, 1, 0, 0, 0]])
    order = token_order(kinds, views=4)
    assert order[0].tolist() == [0, 1, 2, 4, 5]
    assert order[1, :4].tolist() == [0, 4, 5, 6]
    assert order[2, :4].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("width", [8, 11])
def test_objects_with_and_without_own_linear(width: int) -> None:
    model = make_model(object_size=width)
    kinds = torch.tensor([[1, 0, 2, 2], [1, 2, 0, 0]])
    mask = torch.tensor([[True] * 4, [True, True, False, False]])
    views, things = torch.randn(2, 2, 8), torch.randn(2, 2, width)
    out = model.encode_panorama(views, torch.zeros(2, 4, 7), kinds, mask, things)
    views[1, 1], things[1, 1] = 99, 99  # beyond the row's counts: never read
    again = model.encode_panorama(views, torch.zeros(2, 4, 7), kinds, mask, things)
    torch.testing.assert_close(out.embeds[mask], again.embeds[mask])
    torch.testing.assert_close(out.mean[1], out.embeds[1, :2].mean(0))
    local = torch.randn(2, 5, 24)
    assert model.og_head is not None
    object_mask = torch.nn.functional.pad((kinds == 2) & mask, (1, 0))
    logits = model._object_logits(local, object_mask)
    assert logits is not None and torch.equal(logits != INF, object_mask)


def test_words_can_look_at_what_is_seen() -> None:
    model, b = make_model(lang2visn=True), make_batch()
    extra = {n for n, _ in model.named_parameters()} - {
        n for n, _ in make_model().named_parameters()
    }
    assert len(extra) == 2 * CONFIG.cross_layers * 16
    text = model.encode_text(b["ids"], b["words"])
    panorama = model.encode_panorama(b["features"], b["locations"], b["kinds"], b["views"])
    arguments = (
        panorama.embeds,
        b["views"],
        b["positions"],
        b["node_features"],
        b["node_steps"],
        b["node_positions"],
        b["node_mask"],
    )
    out = model.read_with_vision(text, *arguments, details=True)
    assert out.embeds.shape == text.embeds.shape and len(out.local_scores) == CONFIG.cross_layers
    total = out.global_hidden[-1] + out.local_hidden[-1]
    assert torch.equal(out.embeds, total)


def test_narrow_type_stays_close() -> None:
    model, b = make_model(), make_batch()
    with torch.no_grad():
        exact = run(model, b).fused
        with torch.autocast("cpu", torch.bfloat16):
            narrow = run(model, b).fused
    assert narrow.dtype == torch.float32
    torch.testing.assert_close(narrow, exact, rtol=0.1, atol=0.1)
