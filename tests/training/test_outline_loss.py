"""What the fit to outlines is held to: steps count more, pairs keep their order, anchors hold the coarse map alone."""

import pytest
import torch

from deeplens.training.outline_loss import (
    NEAR,
    TIMES,
    anchor_loss,
    edge_weights,
    matte_loss,
    pair_loss,
    steps_of,
    weighted_loss,
)

TRUTH = torch.zeros(1, 1, 64, 64)
TRUTH[..., 32:] = 1.0
KNOWN = torch.ones_like(TRUTH)


def test_weights_are_larger_near_a_step_alone() -> None:
    weights = edge_weights(TRUTH, KNOWN)[0, 0]
    near = weights == TIMES
    assert near.any(0).nonzero().flatten().tolist() == list(range(31 - NEAR, 33 + NEAR))
    assert (weights[~near] == 1).all()
    assert not steps_of(torch.linspace(0, 1, 64).expand(1, 1, 64, 64)).any(), "a ramp has no step"
    half = KNOWN.clone()
    half[..., :32, :] = 0
    assert not edge_weights(TRUTH, half)[..., :20, :].any(), "nothing counts where nothing is known"


def test_an_error_at_a_step_costs_more_than_one_elsewhere() -> None:
    losses = []
    for column in (31, 5):
        wrong = TRUTH.clone()
        wrong[..., column] = 0.5
        losses.append(weighted_loss(wrong, TRUTH, KNOWN).item())
    assert losses[0] == pytest.approx(TIMES * losses[1], rel=1e-3)
    assert weighted_loss(TRUTH, TRUTH, KNOWN).item() == pytest.approx(0, abs=1e-5)


def test_pairs_want_the_whole_step_the_right_way_round() -> None:
    assert pair_loss(TRUTH, TRUTH, KNOWN).item() == 0
    assert pair_loss(3 * TRUTH + 0.2, TRUTH, KNOWN).item() == 0, "more of it costs nothing"
    assert pair_loss(torch.zeros_like(TRUTH), TRUTH, KNOWN).item() == pytest.approx(1)
    assert pair_loss(1 - TRUTH, TRUTH, KNOWN).item() == pytest.approx(2)
    assert pair_loss(1 - TRUTH, TRUTH, 0 * KNOWN).item() == 0


def test_an_anchor_holds_the_coarse_map_and_leaves_outlines_free() -> None:
    label = torch.linspace(0, 1, 64).expand(1, 1, 64, 64)
    checks = (torch.arange(64) % 2 * 2 - 1).float()
    grain = 0.05 * (checks[:, None] * checks)
    grain[0, 0] = grain[-1, -1] = 0
    fine = (label + grain).clamp(0, 1)
    assert anchor_loss(fine, label, KNOWN).item() < 5e-3
    assert anchor_loss(1 - label, label, KNOWN).item() > 0.3
    assert anchor_loss(1 - label, label, 0 * KNOWN).item() == 0


def test_mattes_are_held_to_by_cross_entropy() -> None:
    assert matte_loss(TRUTH, TRUTH, KNOWN).item() < 1e-3
    assert matte_loss(torch.full_like(TRUTH, 0.5), TRUTH, KNOWN).item() == pytest.approx(0.6931, abs=1e-3)
    assert torch.isfinite(matte_loss(1 - TRUTH, TRUTH, KNOWN))
