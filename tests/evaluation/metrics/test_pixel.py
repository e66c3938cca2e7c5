"""Measures against inputs whose scores are known."""

import math

import pytest
import torch

from halfface_pipeline.evaluation.metrics import pixel


def test_determined_pixels_are_those_all_redraws_share():
    redraws = torch.zeros(1, 3, 3, 2, 2, dtype=torch.uint8)
    redraws[0, 2, 1, 0, 1] = 9
    assert pixel.determined_pixels(redraws).tolist() == [[[True, False], [True, True]]]


def test_determined_pixel_error_ignores_free_pixels_and_is_the_mean_elsewhere():
    truth = torch.zeros(1, 3, 2, 2)
    determined = torch.tensor([[[True, False], [True, True]]])
    hidden = torch.zeros(1, 2, 3, 2, 2)
    hidden[0, 0, :, 0, 1] = 1.0
    hidden[0, 1, 0, 1, 1] = 0.9
    assert pixel.masked_error(hidden, truth, determined).tolist() == [[0.0, pytest.approx(0.1)]]


def test_residual_noise_reads_the_deviation_of_white_noise_and_no_gradient():
    generator = torch.Generator().manual_seed(0)
    ramp = torch.linspace(0, 1, 200)[:, None] * torch.linspace(0.5, 1, 200) * torch.ones(3, 1, 1)
    assert float(pixel.residual_noise(ramp)) < 1e-4
    for deviation in (0.01, 0.1):
        noisy = ramp + deviation * torch.randn(3, 200, 200, generator=generator)
        assert float(pixel.residual_noise(noisy)) == pytest.approx(deviation, rel=0.03)
    edge = ramp.clone()
    edge[:, :, 100:] = 0
    assert float(pixel.residual_noise(edge)) < 1e-4


def test_sharpness_is_zero_on_a_ramp_and_that_of_the_laplacian_elsewhere():
    ramp = torch.linspace(0, 1, 20)[:, None].expand(3, 20, 30)
    assert float(pixel.sharpness(ramp)) < 1e-6
    board = ((torch.arange(20)[:, None] + torch.arange(20)) % 2).float().expand(2, 3, 20, 20)
    assert pixel.sharpness(board).tolist() == [pytest.approx(4)] * 2
    noise = torch.randn(3, 200, 200, generator=torch.Generator().manual_seed(0)) * 0.1
    assert float(pixel.sharpness(noise)) == pytest.approx(0.1 * 20**0.5, rel=0.02)  # 16 + 4 weights squared


def test_seam_measures_on_bands():
    known, hidden = torch.zeros(2, 3, 6, 5), torch.full((2, 3, 6, 5), 0.25)
    assert pixel.seam_gradient(known, hidden).tolist() == [0.25, 0.25]
    assert pixel.seam_colour_difference(known, hidden).tolist() == [0.25, 0.25]
    hidden[:, :, 0] = 0.0
    assert pixel.seam_gradient(known, hidden).tolist() == [0.0, 0.0]
    assert pixel.seam_colour_difference(known, hidden).tolist() == [pytest.approx(0.25 * 3 / 4)] * 2
    hidden[:, :, 4:] = 9.0
    assert pixel.seam_colour_difference(known, hidden).tolist() == [pytest.approx(0.25 * 3 / 4)] * 2


def test_seam_colour_compares_each_column_with_its_own():
    known = torch.tensor([0.0, 1.0]).expand(3, 4, 2)
    assert float(pixel.seam_colour_difference(known, known)) == 0
    assert float(pixel.seam_colour_difference(known, known.flip(-1))) == 1


def test_spread_is_the_standard_deviation_of_pixels():
    draws = torch.randn(2, 4000, 3, 3, 3, generator=torch.Generator().manual_seed(0)) * 0.2 + 0.5
    assert pixel.spread(draws).tolist() == [pytest.approx(0.2, rel=0.01)] * 2
    assert float(pixel.spread(draws[:1, :1].expand(-1, 5, -1, -1, -1))) == 0
    assert math.isclose(float(pixel.spread(torch.tensor([0.0, 1.0]).view(1, 2, 1, 1, 1))), 0.5**0.5, rel_tol=1e-6)


def test_images_are_made_as_noisy_as_wanted_and_never_less():
    smooth = torch.full((3, 3, 64, 48), 0.5)
    noisy = pixel.add_noise_to(smooth, torch.tensor([0.02, 0.05, 0.0]))
    assert pixel.residual_noise(noisy).tolist() == pytest.approx([0.02, 0.05, 0], rel=0.05)
    assert torch.equal(pixel.add_noise_to(noisy, torch.tensor([0.01, 0.01, 0.0])), noisy)
    # Noise adds in squares: 3, 4, 5.
    again = pixel.add_noise_to(pixel.add_noise_to(smooth[:1], torch.tensor([0.03])), torch.tensor([0.05]), seed=1)
    assert float(pixel.residual_noise(again)) == pytest.approx(0.05, rel=0.05)


def test_images_are_made_as_sharp_as_wanted_by_blur_alone():
    images = torch.rand(4, 3, 24, 20, generator=torch.Generator().manual_seed(0))
    sharp = pixel.sharpness(images)
    wanted = sharp * torch.tensor([0.9, 0.5, 1.5, 0.01])
    reached = pixel.sharpness(pixel.blur_to_sharpness(images, wanted)) / sharp
    assert reached[:2].tolist() == pytest.approx([0.9, 0.5], abs=1e-4)
    assert torch.equal(pixel.blur_to_sharpness(images, wanted)[2], images[2])  # never sharpened
    assert 0.01 < float(reached[3]) < 0.2  # one blur takes no more away
    flat = torch.full((1, 3, 8, 8), 0.5)
    assert torch.equal(pixel.blur_to_sharpness(flat, torch.zeros(1)), flat)
