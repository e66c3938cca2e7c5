"""What a user of the pipeline relies on: inputs, outputs, repeatable draws, saving and loading."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import PIL.Image
import pytest
import torch
from diffusers import DiffusionPipeline, DPMSolverMultistepScheduler, UNet2DModel
from diffusers.utils.torch_utils import randn_tensor

from halfface_pipeline import HalfFaceInpaintPipeline, HalfFaceOutput
from halfface_pipeline.diffusion.halves import cut
from halfface_pipeline.diffusion.samplers import make_sampler

HIDDEN = ("bottom", "top", "left", "right")


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def visible_part(images, pipe):
    """The part of whole images (N, 3, H, W) that was given."""
    return cut(images, pipe.config.hidden_half)[0]


@pytest.mark.parametrize("hidden_half", HIDDEN)
@pytest.mark.parametrize("size", [(108, 88), (218, 178), (48, 40)])
def test_visible_pixels_are_untouched_at_every_size_and_half(tiny_pipeline, size, hidden_half):
    pipe = tiny_pipeline(*size, hidden_half=hidden_half)
    half = torch.rand(3, *pipe.half_size, generator=seeded())
    out = pipe(half, num_completions=2, num_inference_steps=2, output_type="pt")
    assert out.images.shape == (2, 3, *size)
    assert torch.equal(visible_part(out.images, pipe), half.expand(2, -1, -1, -1))
    assert torch.equal(cut(out.images, hidden_half)[1], out.hidden_halves)
    assert float(out.hidden_halves.min()) >= 0 and float(out.hidden_halves.max()) <= 1


@pytest.mark.parametrize("output_type", ["pil", "np", "pt"])
@pytest.mark.parametrize("given", ["pil", "uint8", "float", "torch", "list"])
def test_every_kind_of_input_gives_the_same_completion_in_every_kind_of_output(tiny_pipeline, given, output_type):
    pipe = tiny_pipeline()
    pixels = np.random.default_rng(0).integers(0, 256, (10, 16, 3), dtype=np.uint8)
    unit = torch.from_numpy(pixels).permute(2, 0, 1) / 255
    half = {
        "pil": PIL.Image.fromarray(pixels),
        "uint8": pixels,
        "float": pixels.astype(np.float32) / 255,
        "torch": unit,
        "list": [pixels],
    }[given]
    out = pipe(half, num_inference_steps=3, generator=seeded(), output_type=output_type)
    reference = pipe(unit, num_inference_steps=3, generator=seeded(), output_type="pt").hidden_halves[0]
    if output_type == "pil":
        assert np.array_equal(np.array(out.images[0])[:10], pixels)
        drawn = torch.from_numpy(np.array(out.hidden_halves[0])).permute(2, 0, 1) / 255
        assert float((drawn - reference).abs().max()) <= 1 / 255
    elif output_type == "np":
        assert out.images.dtype == np.float32
        assert np.array_equal(out.images[0, :10], pixels.astype(np.float32) / 255)
        np.testing.assert_allclose(out.hidden_halves[0].transpose(2, 0, 1), reference, atol=1e-5)
    else:
        assert torch.equal(out.images[0, :, :10], unit)
        torch.testing.assert_close(out.hidden_halves[0], reference, atol=1e-5, rtol=0)


def test_float_arrays_come_back_bit_for_bit(tiny_pipeline):
    half = np.random.default_rng(0).random((10, 16, 3))
    out = tiny_pipeline()(half, num_inference_steps=1, output_type="np")
    assert np.array_equal(out.images[0, :10], half)


def test_pil_of_another_size_is_resized_and_turned_upright(tiny_pipeline):
    pipe = tiny_pipeline()
    sideways = PIL.Image.new("RGB", (10, 16), "red")
    sideways.paste("blue", (5, 0, 10, 16))
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    sideways.info["exif"] = exif.tobytes()
    out = pipe(sideways, num_inference_steps=1)
    turned = np.array(out.images[0])[:10]
    assert turned.shape == (10, 16, 3)
    assert (turned[0] == (255, 0, 0)).all() and (turned[-1] == (0, 0, 255)).all()
    assert pipe(PIL.Image.new("L", (64, 40)), num_inference_steps=1).images[0].size == (16, 20)


def test_pil_of_every_kind_is_read_as_the_data_sets_read_it(tiny_pipeline):
    pipe = tiny_pipeline()
    deep = PIL.Image.fromarray(np.full((10, 16), 20_000, np.uint16))
    clear = PIL.Image.new("RGBA", (16, 10), (10, 20, 30, 0))
    for half, value in ((deep, round(20_000 / 257)), (clear, 255)):
        assert (np.array(pipe(half, num_inference_steps=1).images[0])[:10] == value).all()


def test_batches_and_order_of_completions(tiny_pipeline):
    pipe = tiny_pipeline()
    halves = torch.stack([torch.full((3, 10, 16), value) for value in (0.25, 0.75)])
    images, hidden = pipe(halves, num_completions=3, num_inference_steps=2, output_type="pt", return_dict=False)
    assert [float(image[0, 0, 0]) for image in images] == [0.25] * 3 + [0.75] * 3
    assert hidden.shape == (6, 3, 10, 16)
    assert isinstance(pipe(list(halves), num_inference_steps=1), HalfFaceOutput)


@pytest.mark.parametrize("name", ["ddpm", "dpm++", "euler-a", "dpm-sde"])
def test_a_completion_does_not_depend_on_the_batch_it_is_drawn_in(tiny_pipeline, name):
    pipe = tiny_pipeline(prediction_type="v_prediction")
    pipe.scheduler = make_sampler(name, pipe.scheduler)
    half = torch.rand(3, 10, 16, generator=seeded(1))

    def draw(**arguments):
        return pipe(half, num_inference_steps=4, generator=seeded(), output_type="pt", **arguments).hidden_halves

    together = draw(num_completions=5)
    for other in (
        draw(num_completions=5, batch_size=1),
        draw(num_completions=5, batch_size=2),
    ):
        torch.testing.assert_close(other, together[: len(other)], atol=1e-5, rtol=0)
    assert not torch.allclose(together[0], together[1], atol=1e-2)


def test_starting_noise_is_bitwise_the_same_in_every_batch(tiny_pipeline):
    pipe = tiny_pipeline()
    noise = {}

    def zero_network(sample, timestep, return_dict=True):
        noise.setdefault("parts", []).append(sample[:, :3].clone())
        return (torch.zeros_like(sample[:, :3]),)

    pipe.unet.forward = zero_network
    for batch_size in (None, 1, 2):
        noise["parts"] = []
        pipe(
            torch.zeros(3, 10, 16), num_completions=5, num_inference_steps=1, generator=seeded(), batch_size=batch_size
        )
        noise[batch_size] = torch.cat(noise["parts"])
    assert torch.equal(noise[None], noise[1]) and torch.equal(noise[None], noise[2])


def test_generators_one_an_input_or_one_a_completion(tiny_pipeline):
    pipe = tiny_pipeline()
    halves = torch.zeros(2, 3, 10, 16)
    arguments = {"num_completions": 2, "num_inference_steps": 2, "output_type": "pt"}
    per_input = pipe(halves, generator=[seeded(7), seeded(7)], **arguments).hidden_halves
    torch.testing.assert_close(per_input[:2], per_input[2:], atol=1e-5, rtol=0)
    each = pipe(halves, generator=[seeded(7), seeded(8), seeded(7), seeded(9)], **arguments).hidden_halves
    torch.testing.assert_close(each[0], each[2], atol=1e-5, rtol=0)
    assert not torch.allclose(each[1], each[3], atol=1e-2)
    with pytest.raises(ValueError, match=r"generator is a list of 3; .* \(2\) .* \(4\)"):
        pipe(halves, generator=[seeded()] * 3, **arguments)


@pytest.mark.parametrize("name", ["ddpm", "dpm++"])
def test_generator_equals_latents_drawn_from_it(tiny_pipeline, name):
    pipe = tiny_pipeline()
    pipe.scheduler = make_sampler(name, pipe.scheduler)
    arguments = {"num_completions": 3, "num_inference_steps": 3, "output_type": "pt"}
    generator = seeded(4)
    latents = randn_tensor((3, *pipe.latent_shape), generator=generator)
    given = pipe(torch.zeros(3, 10, 16), latents=latents, generator=generator, **arguments).images
    assert torch.equal(pipe(torch.zeros(3, 10, 16), generator=seeded(4), **arguments).images, given)


def test_latent_output_is_the_hidden_half_in_signed_range(tiny_pipeline):
    pipe, half = tiny_pipeline(hidden_half="left"), torch.zeros(3, 20, 8)
    latent = pipe(half, num_inference_steps=2, generator=seeded(), output_type="latent").images
    unit = pipe(half, num_inference_steps=2, generator=seeded(), output_type="pt").hidden_halves
    assert torch.equal((latent + 1) / 2, unit)
    assert float(latent.min()) < 0


def test_threads_can_share_a_pipeline(tiny_pipeline):
    pipe = tiny_pipeline()
    pipe.scheduler = make_sampler("dpm++", pipe.scheduler)

    def run(steps):
        return pipe(torch.zeros(3, 10, 16), 2, steps, seeded(), output_type="pt").images

    counts = [3, 5, 7, 4, 6, 3]
    alone = [run(steps) for steps in counts]
    with ThreadPoolExecutor(6) as pool:
        assert all(torch.equal(*pair) for pair in zip(alone, pool.map(run, counts), strict=True))


def test_from_pipe_keeps_or_replaces_the_scheduler(tiny_pipeline):
    pipe = tiny_pipeline()
    solver = DPMSolverMultistepScheduler.from_config(pipe.scheduler.config)
    again = HalfFaceInpaintPipeline.from_pipe(pipe)
    other = HalfFaceInpaintPipeline.from_pipe(pipe, scheduler=solver)
    assert again.unet is pipe.unet and again.config.height == 20 and again.scheduler is pipe.scheduler
    assert other.scheduler is solver and other.unet is pipe.unet and other.config.width == 16


def test_components_without_a_size_are_refused(tiny_pipeline):
    with pytest.raises(ValueError, match="height is None; it must be the height of complete images"):
        HalfFaceInpaintPipeline(**tiny_pipeline().components)


def test_weights_that_are_not_finite_give_no_image(tiny_pipeline):
    pipe = tiny_pipeline()
    pipe.unet.conv_out.bias.data.fill_(float("nan"))
    with pytest.raises(ValueError, match="values that are not finite"):
        pipe(torch.zeros(3, 10, 16), num_inference_steps=2)


def test_given_latents_are_where_sampling_starts(tiny_pipeline):
    pipe = tiny_pipeline()
    latents = torch.randn(2, *pipe.latent_shape, generator=seeded())
    arguments = {"num_inference_steps": 2, "output_type": "pt", "num_completions": 2}
    pipe.scheduler = DPMSolverMultistepScheduler.from_config(pipe.scheduler.config)
    first = pipe(torch.zeros(3, 10, 16), latents=latents, generator=seeded(1), **arguments).images
    again = pipe(torch.zeros(3, 10, 16), latents=latents, generator=seeded(2), **arguments).images
    other = pipe(torch.zeros(3, 10, 16), latents=latents.flip(0), **arguments).images
    assert torch.equal(first, again)
    torch.testing.assert_close(other, first.flip(0), atol=1e-5, rtol=0)


def test_callback_sees_and_replaces_the_latents(tiny_pipeline):
    pipe = tiny_pipeline()
    seen = []

    def callback(pipe, step, timestep, tensors):
        seen.append((step, int(timestep)))
        return {"latents": torch.full_like(tensors["latents"], 0.25)}

    out = pipe(torch.zeros(3, 10, 16), num_inference_steps=2, callback_on_step_end=callback, output_type="pt")
    assert seen == [(0, 999), (1, 499)]
    assert bool((out.hidden_halves == 0.625).all())
    with pytest.raises(ValueError, match="callback_on_step_end_tensor_inputs"):
        pipe(torch.zeros(3, 10, 16), callback_on_step_end=callback, callback_on_step_end_tensor_inputs=["prompt"])


@pytest.mark.parametrize("hidden_half", ["bottom", "left"])
def test_saving_and_loading_gives_the_same_bits(tiny_pipeline, tmp_path, hidden_half):
    pipe = tiny_pipeline(hidden_half=hidden_half, known_layout="stacked", prediction_type="v_prediction")
    pipe.save_pretrained(tmp_path)
    again = HalfFaceInpaintPipeline.from_pretrained(tmp_path)
    settings = ("height", "width", "hidden_half", "known_layout")
    assert [again.config[name] for name in settings] == [20, 16, hidden_half, "stacked"]
    kept = ("prediction_type", "timestep_spacing", "beta_schedule", "beta_end", "variance_type", "clip_sample")
    assert [again.scheduler.config[name] for name in kept] == [pipe.scheduler.config[name] for name in kept]
    assert again.scheduler.config.prediction_type == "v_prediction"
    half = torch.zeros(3, *pipe.half_size)
    draws = [p(half, num_inference_steps=3, generator=seeded(), output_type="pt").images for p in (pipe, again)]
    assert torch.equal(*draws)


def test_a_saved_model_loads_without_the_package_by_its_own_code(tiny_pipeline, tmp_path):
    pipe = tiny_pipeline(height=24)
    pipe.save_pretrained(tmp_path)
    assert {"pipeline.py", "halves.py", "image_io.py"} <= {file.name for file in tmp_path.iterdir()}
    generic = DiffusionPipeline.from_pretrained(
        tmp_path, custom_pipeline=str(tmp_path / "pipeline.py"), trust_remote_code=True
    )
    assert type(generic).__module__ != HalfFaceInpaintPipeline.__module__
    half = torch.zeros(3, *pipe.half_size)
    draws = [p(half, num_inference_steps=3, generator=seeded(), output_type="pt").images for p in (pipe, generic)]
    assert torch.equal(*draws)


def test_half_precision_networks_complete(tiny_pipeline):
    pipe = tiny_pipeline()
    half = torch.rand(3, 10, 16, generator=seeded(1))
    full = pipe(half, num_inference_steps=3, generator=seeded(), output_type="pt").hidden_halves
    pipe.to(torch.bfloat16)
    low = pipe(half, num_inference_steps=3, generator=seeded(), output_type="pt").hidden_halves
    assert low.dtype == torch.float32
    assert 0 < float((low - full).abs().mean()) < 0.05


@pytest.mark.parametrize(
    ("half", "arguments", "message"),
    [
        (torch.zeros(3, 10, 16), {"num_completions": 0}, "num_completions is 0"),
        (torch.zeros(3, 10, 16), {"num_inference_steps": 0}, "num_inference_steps is 0; it must be from 1 to 1000"),
        (torch.zeros(3, 10, 16), {"num_inference_steps": 1001}, "num_inference_steps is 1001"),
        (torch.zeros(3, 10, 16), {"batch_size": 0}, "batch_size is 0"),
        (
            torch.zeros(3, 10, 16),
            {"output_type": "jpg"},
            "output_type is 'jpg'; it must be one of pil, np, pt, latent",
        ),
        (torch.zeros(3, 10, 16), {"generator": 0}, "generator is 0; it must be a torch.Generator"),
        (torch.zeros(3, 10, 16), {"latents": torch.zeros(1, 3, 4, 4)}, r"latents has shape \(1, 3, 4, 4\)"),
        (torch.zeros(3, 12, 16), {}, r"top_half has shape \(3, 12, 16\); a tensor must be \(3, 10, 16\)"),
        (np.zeros((12, 16, 3), np.uint8), {}, r"an array must be \(10, 16, 3\)"),
        (torch.zeros(3, 20, 16), {}, r"shape of a complete image, \(3, 20, 16\); cut out its known half"),
        (PIL.Image.new("RGB", (160, 200)), {}, "like a complete image"),
        (torch.full((3, 10, 16), -0.5), {}, r"outside \[0, 1\]"),
        (torch.full((3, 10, 16), 255.0), {}, "outside"),
        (torch.full((3, 10, 16), float("nan")), {}, "NaN"),
        (np.full((10, 16, 3), 7.0), {}, "outside"),
        (torch.zeros(3, 10, 16, dtype=torch.uint8), {}, "torch.uint8"),
        ([], {}, "top_half is empty"),
        ("face.png", {}, "top_half is a str"),
    ],
)
def test_bad_calls_are_refused_in_one_line(tiny_pipeline, half, arguments, message):
    with pytest.raises(ValueError, match=message):
        tiny_pipeline()(half, **arguments)


def test_a_network_of_other_channels_is_refused(tiny_pipeline):
    network = UNet2DModel(
        sample_size=8,
        in_channels=3,
        out_channels=3,
        block_out_channels=(8, 16),
        norm_num_groups=4,
        down_block_types=("DownBlock2D",) * 2,
        up_block_types=("UpBlock2D",) * 2,
    )
    with pytest.raises(ValueError, match="3 channels to 3"):
        HalfFaceInpaintPipeline(network, tiny_pipeline().scheduler, 20, 16)
