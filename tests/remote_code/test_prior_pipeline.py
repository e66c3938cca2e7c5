"""The pipeline of a generative prior: any mask, any method, saving, loading and refusing."""

import numpy as np
import PIL.Image
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMPipeline,
    DDPMScheduler,
    DiffusionPipeline,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    UNet2DModel,
)

from halfface_pipeline import FacePriorPipeline, HalfFaceInpaintPipeline
from halfface_pipeline.experiments.gaussian_posterior import GaussianImages
from halfface_pipeline.remote_code.masks import read_mask
from halfface_pipeline.remote_code.posterior import METHODS
from tests.conftest import TINY_REPORT_MODEL, tiny_prior
from tests.oracles import GaussianDenoiser, MaskedGaussianDenoiser

HEIGHT, WIDTH = 20, 16
METHOD_NAMES = sorted(METHODS)
OPTIONS = {"repaint": {"jump_length": 2, "resamplings": 2}, "tds": {"num_particles": 3}, "daps": {"ode_steps": 2}}
STEPS = 5


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def pipe():
    return tiny_prior(prediction_type="epsilon")


@pytest.fixture(scope="module")
def masked():
    """A pipeline whose network was trained for masks."""
    return tiny_prior(prediction_type="epsilon", hidden_half="any")


@pytest.fixture(scope="module")
def face():
    return torch.rand(3, HEIGHT, WIDTH, generator=seeded(1))


def box_mask():
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[3:9, 2:15] = 1
    return mask


@pytest.mark.parametrize("method", [*METHOD_NAMES, None])
@pytest.mark.parametrize("mask", ["bottom", "left", box_mask()], ids=["bottom", "left", "box"])
def test_seen_pixels_are_returned_bit_for_bit(pipe, masked, method, mask):
    pipe = pipe if method else masked
    image = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    hidden = read_mask(mask, HEIGHT, WIDTH)[0].numpy()
    out = pipe(image, mask, method, 2, STEPS, seeded(), **OPTIONS.get(method, {}))
    for completed in map(np.array, out.images):
        assert np.array_equal(completed[~hidden], image[~hidden])
        assert not np.array_equal(completed[hidden], image[hidden])


def test_hidden_pixels_are_not_used(pipe, masked, face):
    other = face.clone()
    other[:, 10:] = 0.5
    for method in (*METHOD_NAMES, None):
        options = {"output_type": "pt", **OPTIONS.get(method, {})}
        images = [
            (pipe if method else masked)(each, "bottom", method, 1, STEPS, seeded(), **options).images
            for each in (face, other)
        ]
        assert torch.equal(*images), method


@pytest.mark.parametrize("method", [*METHOD_NAMES, None])
def test_a_completion_does_not_depend_on_its_batch(face, method):
    pipe = tiny_prior(prediction_type="v_prediction", hidden_half="all" if method else "any")
    faces = [face, 1 - face, face.flip(-1)]
    masks = ["bottom", box_mask(), "left"]
    options = {"output_type": "pt", **OPTIONS.get(method, {})}
    together = pipe(faces, masks, method, 2, STEPS, seeded(), **options).images
    apart = pipe(faces, masks, method, 2, STEPS, seeded(), batch_size=1, **options).images
    torch.testing.assert_close(together, apart, atol=1e-4, rtol=0)
    six = pipe(faces, masks, method, 2, STEPS, [seeded(seed) for seed in range(6)], **options).images
    alone = pipe(faces[2], masks[2], method, 2, STEPS, [seeded(4), seeded(5)], **options).images
    torch.testing.assert_close(six[4:], alone, atol=1e-4, rtol=0)


@pytest.mark.parametrize("method", [*METHOD_NAMES, None])
@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
def test_an_exact_denoiser_of_a_constant_image_completes_it(method, prediction_type):
    pipe = tiny_prior(prediction_type=prediction_type, hidden_half="all" if method else "any")
    pipe.unet = GaussianDenoiser(pipe.unet, pipe.scheduler.alphas_cumprod, 0.4, 0.0, prediction_type)
    pipe.unet.forward = differentiable(pipe.unet)
    image = torch.full((3, HEIGHT, WIDTH), 0.7)
    out = pipe(image, box_mask(), method, 1, 15, seeded(), output_type="pt")
    torch.testing.assert_close(out.images[0], image, atol=2e-3, rtol=0)


def differentiable(denoiser):
    """The denoiser's answer as a function of its input, which a constant image leaves without a gradient."""
    forward = GaussianDenoiser.forward

    def call(sample, timestep, return_dict=True):
        return tuple(each + 0 * sample[:, :3] for each in forward(denoiser, sample, timestep, return_dict))

    return call


@pytest.mark.parametrize(
    ("scheduler", "steps"),
    [
        (DDPMScheduler, 250),
        (DDIMScheduler, 250),
        (DPMSolverMultistepScheduler, 100),
        (EulerDiscreteScheduler, 250),
        (HeunDiscreteScheduler, 100),
    ],
)
def test_an_exact_network_for_masks_samples_the_exact_posterior(scheduler, steps):
    """Gaussian images 4x4 with the bottom hidden, at a scale at which one value in a thousand leaves the range."""
    gaussian, scale = GaussianImages(), 0.5
    pipe = tiny_prior(channels=1, prediction_type="epsilon", hidden_half="any")
    unclipped = {"clip_sample": False} if scheduler in (DDPMScheduler, DDIMScheduler) else {}
    pipe = FacePriorPipeline(pipe.unet, scheduler.from_config(pipe.scheduler.config, **unclipped), 4, 4)
    pipe.set_progress_bar_config(disable=True)
    abar, covariance = pipe.scheduler.alphas_cumprod, scale**2 * gaussian.covariance
    pipe.unet = MaskedGaussianDenoiser(pipe.unet, abar, scale * gaussian.mean, covariance)
    image = (scale * gaussian.seen.reshape(1, 4, 4).float() + 1) / 2
    latents = pipe(image, "bottom", None, 800, steps, seeded(), output_type="latent").images
    assert torch.allclose(latents[:, :, :2], 2 * image[:, :2] - 1, atol=1e-6)
    samples = latents.flatten(1)[:, 8:].double() / scale
    assert gaussian.mean_error(samples) < 0.05  # of the prior's mean it is 0.72, of the best method for a prior 0.07
    assert 0.85 < gaussian.variance_ratio(samples) < 1.08  # fewer steps leave less
    assert gaussian.covariance_error(samples) < 0.12


def test_a_model_trained_for_masks_takes_any_scheduler_and_no_method(masked, face):
    for scheduler in (DDIMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler):
        own = FacePriorPipeline(masked.unet, scheduler.from_config(masked.scheduler.config), HEIGHT, WIDTH)
        own.set_progress_bar_config(disable=True)
        out = own(face, box_mask(), num_completions=2, num_inference_steps=7, generator=seeded())
        assert (len(out.images), out.num_evaluations, out.effective_sample_size) == (2, 7, None)
    whole = masked(mask="all", num_completions=2, num_inference_steps=2, generator=seeded()).images
    assert len(whole) == 2
    for method in METHODS:
        with pytest.raises(ValueError, match=f"method is '{method}'; the model was trained for masks") as error:
            masked(face, "top", method)
        assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="num_particles is 3; the model was trained for masks"):
        masked(face, "top", num_particles=3)


def test_everything_hidden_is_plain_sampling(pipe, face):
    """The same images as from diffusers' DDPMPipeline, from the same noise."""
    for scheduler in (DDIMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler):
        own = FacePriorPipeline(pipe.unet, scheduler.from_config(pipe.scheduler.config), HEIGHT, WIDTH)
        own.set_progress_bar_config(disable=True)
        start = torch.randn(2, 3, HEIGHT, WIDTH, generator=seeded(3))
        images = own(mask="all", num_completions=2, num_inference_steps=10, latents=start, output_type="latent").images
        steps = scheduler.from_config(pipe.scheduler.config)
        steps.set_timesteps(10)
        x = start * steps.init_noise_sigma
        with torch.no_grad():
            for t in steps.timesteps:
                x = steps.step(pipe.unet(steps.scale_model_input(x, t), t).sample, t, x).prev_sample
        torch.testing.assert_close(images, x.clamp(-1, 1), atol=1e-4, rtol=0)
    whole = pipe([face, face], "all", num_inference_steps=2, generator=seeded(), output_type="pt").images
    assert whole.shape == (2, 3, HEIGHT, WIDTH) and not torch.equal(whole[0], face)


def test_the_output_says_what_it_cost(pipe, face):
    out = pipe(face, "top", "repaint", num_inference_steps=12, generator=seeded(), jump_length=4, resamplings=3)
    assert (out.num_evaluations, out.effective_sample_size) == (12 + 2 * 4 * 2, None)
    particles = pipe(face, "top", "tds", 2, 12, seeded(), num_particles=3)
    assert particles.num_evaluations == 36
    sizes = particles.effective_sample_size
    assert sizes.shape == (2,) and bool(((sizes >= 1) & (sizes <= 3)).all())
    images, evaluations, none = pipe(face, "top", "dps", num_inference_steps=2, return_dict=False)
    assert (len(images), evaluations, none) == (1, 2, None)


@pytest.mark.parametrize("half", ["bottom", "top", "left", "right"])
def test_a_half_by_name_is_the_mask_of_its_pixels(half):
    hidden = torch.zeros(1, 4, 6, dtype=torch.bool)
    {"bottom": hidden[:, 2:], "top": hidden[:, :2], "left": hidden[..., :3], "right": hidden[..., 3:]}[half][:] = True
    assert torch.equal(read_mask(half, 4, 6), hidden)


def test_masks_of_all_kinds_are_the_same_mask(pipe, face):
    hard = box_mask()
    kinds = [
        hard,
        hard * 255,
        hard.astype(bool),
        hard[..., None].astype(np.float32),
        torch.from_numpy(hard),
        torch.from_numpy(hard)[None].bool(),
        PIL.Image.fromarray(hard * 255),
        PIL.Image.fromarray(hard * 255).convert("RGB"),
        PIL.Image.fromarray(hard * 255).convert("1"),
    ]
    masks = [read_mask(each, HEIGHT, WIDTH) for each in kinds]
    assert all(torch.equal(each, masks[0]) for each in masks)
    assert torch.equal(masks[0][0], torch.from_numpy(hard).bool())


def test_a_mask_of_a_photo_is_resized_with_it(pipe):
    photo = PIL.Image.new("RGB", (WIDTH * 5 + 20, HEIGHT * 5), "red")  # 10 pixels are cut off on each side
    mask = np.zeros((HEIGHT * 5, WIDTH * 5 + 20), np.uint8)
    mask[:50, 10 : 10 + 5 * 4] = 255
    hidden = read_mask(PIL.Image.fromarray(mask), HEIGHT, WIDTH, (photo.height, photo.width))
    expected = torch.zeros(1, HEIGHT, WIDTH, dtype=torch.bool)
    expected[:, :10, :4] = True
    assert torch.equal(hidden, expected)
    image = pipe(photo, PIL.Image.fromarray(mask), "replace", 1, 2, seeded()).images[0]
    assert bool((np.array(image)[~expected[0].numpy()] == (255, 0, 0)).all())


@pytest.mark.parametrize("method", ["pigdm", None])
def test_saving_and_loading_gives_the_same_bits(pipe, masked, face, tmp_path, method):
    pipe = pipe if method else masked
    pipe.save_pretrained(tmp_path / "one")
    loaded = FacePriorPipeline.from_pretrained(tmp_path / "one")
    place = str(tmp_path / "one")
    generic = DiffusionPipeline.from_pretrained(place, custom_pipeline=place, trust_remote_code=True)
    assert type(generic).__module__.startswith("diffusers_modules.")
    generic.save_pretrained(tmp_path / "two")
    place = str(tmp_path / "two")
    again = DiffusionPipeline.from_pretrained(place, custom_pipeline=place, trust_remote_code=True)
    images = []
    for each in (pipe, loaded, generic, again):
        each.set_progress_bar_config(disable=True)
        images.append(each(face, box_mask(), method, 2, 4, seeded(), output_type="pt").images)
    assert all(torch.equal(each, images[0]) for each in images)
    files = [{f.name: f.read_bytes() for f in (tmp_path / name).glob("*.py")} for name in ("one", "two")]
    assert files[0] == files[1] and {"pipeline.py", "posterior.py", "masks.py"} <= files[0].keys()


def test_models_of_halves_ship_no_code_of_the_prior():
    assert not {"posterior.py", "prior_pipeline.py", "masks.py"} & HalfFaceInpaintPipeline.sources.keys()


def test_a_prior_is_also_a_model_of_diffusers_and_the_reverse(pipe, face, tmp_path):
    pipe.save_pretrained(tmp_path / "prior")
    plain = DDPMPipeline.from_pretrained(tmp_path / "prior")
    plain.set_progress_bar_config(disable=True)
    assert plain(num_inference_steps=2, generator=seeded()).images[0].size == (WIDTH, HEIGHT)
    plain.save_pretrained(tmp_path / "plain")
    back = FacePriorPipeline.from_pretrained(tmp_path / "plain")
    assert (back.config.height, back.config.width) == (HEIGHT, WIDTH)


def test_the_network_of_the_report_comes_along(face, tmp_path):
    pipe = tiny_prior(TINY_REPORT_MODEL)
    pipe.save_pretrained(tmp_path)
    generic = DiffusionPipeline.from_pretrained(tmp_path, custom_pipeline=str(tmp_path), trust_remote_code=True)
    generic.set_progress_bar_config(disable=True)
    images = [each(face, "top", "dps", 1, 3, seeded(), output_type="pt").images for each in (pipe, generic)]
    assert torch.equal(*images)


@pytest.mark.parametrize("method", ["replace", None])
def test_grey_images(method):
    pipe = tiny_prior(channels=1, hidden_half="all" if method else "any")
    image = PIL.Image.fromarray(np.full((HEIGHT, WIDTH), 200, np.uint8))
    completed = pipe(image, "left", method, 1, 2, seeded()).images[0]
    assert completed.mode == "L" and bool((np.array(completed)[:, 8:] == 200).all())
    array = pipe(np.full((HEIGHT, WIDTH), 200, np.uint8), "left", method, 1, 2, seeded(), output_type="np").images
    assert array.shape == (1, HEIGHT, WIDTH, 1)


def test_half_precision_networks_complete(face):
    for method in (*METHOD_NAMES, None):
        pipe = tiny_prior(hidden_half="all" if method else "any")
        pipe.to(torch.bfloat16)
        options = {"output_type": "pt", **OPTIONS.get(method, {})}
        images = pipe(face, "bottom", method, 1, STEPS, seeded(), **options).images
        assert images.dtype == torch.float32


FACE = torch.full((3, HEIGHT, WIDTH), 0.5)


@pytest.mark.parametrize(
    ("image", "arguments", "message"),
    [
        (None, {}, "image is None; give an image, or mask 'all'"),
        ([], {}, "image is empty"),
        ("face.png", {}, "image is a str"),
        (FACE[:, :10], {}, r"image has shape \(3, 10, 16\); a tensor must be \(3, 20, 16\)"),
        (np.zeros((20, 16, 4), np.uint8), {}, r"an array must be \(20, 16, 3\)"),
        (FACE * 3, {}, r"image has values outside \[0, 1\]"),
        (FACE, {"mask": np.ones((10, 16), bool)}, "mask is 10x16; it must be 20x16"),
        (FACE, {"mask": PIL.Image.new("L", (20, 16), 255)}, "mask is 16x20; it must be 20x16"),
        (FACE, {"mask": np.zeros((20, 16), bool)}, "mask hides nothing"),
        (FACE, {"mask": np.full((20, 16), 0.5)}, "mask has the value 0.5; it must be hard"),
        (FACE, {"mask": np.full((20, 16), 128, np.uint8)}, "mask has the value 128; it must be hard"),
        (FACE, {"mask": "middle"}, "mask is 'middle'; it must be all, bottom, right, top, left, or an image"),
        (FACE, {"mask": 3}, "mask is a int"),
        (FACE, {"mask": ["top", "left"]}, "mask is a list of 2; it must have one per image, 1"),
        (FACE, {"mask": "all", "method": "dps"}, "method is 'dps' and mask hides everything"),
        (FACE, {"method": "magic"}, "method is 'magic'; it must be one of"),
        (FACE, {"method": "dps", "num_particles": 3}, "num_particles is 3; method 'dps' takes guidance_scale"),
        (FACE, {"method": "repaint", "num_inference_steps": 5}, "jump_length is 10; it must be below num_inference"),
        (FACE, {"num_inference_step": 5}, "num_inference_step is 5; method"),
        (FACE, {"num_completions": 0}, "num_completions is 0"),
        (FACE, {"num_inference_steps": 1001}, "num_inference_steps is 1001"),
        (FACE, {"batch_size": 0}, "batch_size is 0"),
        (FACE, {"output_type": "jpg"}, "output_type is 'jpg'"),
        (FACE, {"eta": 0.5}, "eta is 0.5; DDPMScheduler does not take it"),
        (FACE, {"latents": torch.zeros(1, 3, 4, 4)}, r"latents has shape \(1, 3, 4, 4\)"),
    ],
)
def test_bad_calls_are_refused_in_one_line(pipe, image, arguments, message):
    with pytest.raises(ValueError, match=message) as error:
        pipe(image, **arguments)
    assert "\n" not in str(error.value)


def test_a_scheduler_that_a_method_cannot_use_is_refused(pipe, face):
    own = FacePriorPipeline(pipe.unet, DPMSolverMultistepScheduler.from_config(pipe.scheduler.config), HEIGHT, WIDTH)
    own.set_progress_bar_config(disable=True)
    for method in METHODS.keys() - {"replace"}:
        with pytest.raises(ValueError, match=f"scheduler is DPMSolverMultistepScheduler; method '{method}' needs"):
            own(face, "top", method)
    assert len(own(face, "top", "replace", num_inference_steps=4).images) == 1


def test_models_of_the_other_kind_are_refused(pipe, masked, tiny_pipeline, tmp_path):
    halves = tiny_pipeline()
    for other in (masked, tiny_prior(channels=1, hidden_half="any")):
        with pytest.raises(ValueError, match=r"unet maps \d channels to \d; it must map 6 to 3, .* FacePriorPipeline"):
            HalfFaceInpaintPipeline(other.unet, other.scheduler, HEIGHT, WIDTH)
    with pytest.raises(ValueError, match="unet maps 6 channels to 3; it completes one half"):
        FacePriorPipeline(halves.unet, halves.scheduler, HEIGHT, WIDTH)
    with pytest.raises(ValueError, match="load it with FacePriorPipeline"):
        HalfFaceInpaintPipeline(pipe.unet, pipe.scheduler, HEIGHT, WIDTH)
    halves.save_pretrained(tmp_path / "halves")
    with pytest.raises(ValueError, match="unet maps 6 channels to 3"):
        FacePriorPipeline.from_pretrained(tmp_path / "halves")
    odd = UNet2DModel(
        8,
        5,
        4,
        block_out_channels=(8, 8),
        norm_num_groups=4,
        down_block_types=("DownBlock2D",) * 2,
        up_block_types=("UpBlock2D",) * 2,
    )
    with pytest.raises(ValueError, match="unet maps 5 channels to 4; it must map 3 or 4 to 3, or 1 or 2 to 1"):
        FacePriorPipeline(odd, pipe.scheduler, HEIGHT, WIDTH)
