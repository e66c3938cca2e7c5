"""The cut, the turned frame and the network's input."""

import pytest
import torch
from diffusers import UNet2DModel

from halfface_pipeline import ReportNetwork
from halfface_pipeline.diffusion.halves import cut, known_box, split
from halfface_pipeline.remote_code import halves

HIDDEN = ("bottom", "top", "left", "right")


@pytest.mark.parametrize("hidden_half", HIDDEN)
def test_split_gives_the_named_half_and_join_is_its_inverse(hidden_half):
    image = torch.arange(2 * 3 * 6 * 4).reshape(2, 3, 6, 4)
    known, hidden = split(image, hidden_half)
    wanted = {
        "bottom": (image[..., :3, :], image[..., 3:, :]),
        "top": (image[..., 3:, :], image[..., :3, :]),
        "left": (image[..., 2:], image[..., :2]),
        "right": (image[..., :2], image[..., 2:]),
    }[hidden_half]
    assert known.shape[-2:] == halves.canonical_size(6, 4, hidden_half)
    assert torch.equal(halves.from_canonical(known, hidden_half), wanted[0])
    assert torch.equal(halves.from_canonical(hidden, hidden_half), wanted[1])
    assert all(torch.equal(a, b) for a, b in zip(cut(image, hidden_half), wanted, strict=True))
    assert halves.half_size(6, 4, hidden_half) == wanted[0].shape[-2:]
    assert torch.equal(halves.join(known, hidden, hidden_half), image)


@pytest.mark.parametrize("hidden_half", HIDDEN)
def test_the_seam_lies_between_the_last_known_and_the_first_hidden_row(hidden_half):
    ramp = (
        torch.arange(6.0)[:, None].expand(6, 6) if hidden_half in ("bottom", "top") else torch.arange(6.0).expand(6, 6)
    )
    known, hidden = split(ramp, hidden_half)
    assert set(known[-1].tolist()) | set(hidden[0].tolist()) == {2.0, 3.0}


@pytest.mark.parametrize(
    ("size", "hidden_half"), [((7, 4), "bottom"), ((7, 4), "top"), ((6, 5), "left"), ((6, 5), "right")]
)
def test_an_odd_cut_is_refused_with_the_side_named(size, hidden_half):
    name = "height" if hidden_half in ("bottom", "top") else "width"
    with pytest.raises(ValueError, match=f"{name} is {size[0] if name == 'height' else size[1]}"):
        split(torch.zeros(size), hidden_half)


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="hidden_half is 'middle'"):
        split(torch.zeros(4, 4), "middle")


class Recorder(torch.nn.Module):
    """A network that keeps what it is shown and answers with its first three channels."""

    def forward(self, sample, timestep, return_dict=True):
        self.seen = sample
        return (sample[:, :3],)


@pytest.mark.parametrize("layout", halves.KNOWN_LAYOUTS)
def test_network_input_has_noisy_then_known_channels_padded_away_from_the_seam(layout):
    noisy, known = torch.rand(2, 3, 5, 6) + 1, torch.rand(2, 3, 5, 6) + 3
    network = Recorder()
    answer = halves.predict(network, noisy, known, torch.tensor(3), layout, multiple=8)
    assert torch.equal(answer, noisy)
    assert network.seen.shape == (2, 6, 8, 8)
    assert torch.equal(network.seen[:, :3, :5, 1:7], noisy)
    if layout == "mirrored":
        assert torch.equal(network.seen[:, 3:, :5, 1:7], known.flip(-2))
        assert torch.equal(network.seen[:, 3:, 0, 1:7], known[:, :, -1])
    else:
        assert torch.equal(network.seen[:, 3:, 3:, 1:7], known)
    assert int((network.seen != 0).sum()) == 2 * 6 * 5 * 6


def test_fitting_halves_are_not_padded():
    network = Recorder()
    halves.predict(network, torch.ones(1, 3, 8, 16), torch.ones(1, 3, 8, 16), torch.tensor(0), "stacked", 8)
    assert network.seen.shape == (1, 6, 8, 16)


def test_a_network_without_a_known_half_sees_the_noisy_image_alone():
    network, noisy = Recorder(), torch.rand(2, 3, 8, 16)
    assert torch.equal(halves.predict(network, noisy, None, torch.tensor(0), "mirrored", 8), noisy)
    assert torch.equal(network.seen, noisy)


def test_the_multiple_counts_how_often_a_network_halves_its_input():
    unet = UNet2DModel(
        block_out_channels=(4, 4, 4),
        norm_num_groups=2,
        attention_head_dim=2,
        add_attention=False,
        down_block_types=("DownBlock2D",) * 3,
        up_block_types=("UpBlock2D",) * 3,
    )
    report = ReportNetwork(block_out_channels=(4, 4, 4), num_raa_blocks=0)
    deepest = []
    unet.mid_block.register_forward_hook(lambda module, inputs, output: deepest.append(output.shape[-1]))
    report.bottleneck.register_forward_hook(lambda module, inputs, output: deepest.append(output.shape[-1]))
    unet(torch.zeros(1, 3, 16, 16), 0)
    report.eval()(torch.zeros(1, 6, 16, 16), 0)
    assert [16 // halves.size_multiple(network) for network in (unet, report)] == deepest == [4, 2]
    assert halves.size_multiple(torch.nn.DataParallel(report)) == 8


@pytest.mark.parametrize("hidden_half", HIDDEN)
def test_the_box_of_the_known_half_cuts_out_what_cut_calls_known(hidden_half):
    image = torch.arange(6 * 4).reshape(1, 1, 6, 4)
    left, top, right, bottom = known_box(6, 4, hidden_half)
    assert torch.equal(image[..., top:bottom, left:right], cut(image, hidden_half)[0])
