"""Trainings with a teacher: what they start from, save and refuse, and that resuming changes nothing."""

import dataclasses

import pytest
import torch
from diffusers import DiffusionPipeline, LCMScheduler
from safetensors.torch import load_file

from halfface_pipeline import HalfFaceInpaintPipeline
from halfface_pipeline.cli.main import main
from halfface_pipeline.config.schema import Config, DistillationConfig
from halfface_pipeline.diffusion.samplers import few_steps, make_sampler, thorough
from halfface_pipeline.inference.load import load_pipeline
from halfface_pipeline.training.distributed import TrainingStopped
from halfface_pipeline.training.loop import train
from tests.fixtures import changed
from tests.training.test_loop import interrupt_at, last_checkpoint


@pytest.fixture
def student(tiny_config, trained_run):
    sampling = dataclasses.replace(tiny_config.sampling, scheduler="lcm", num_inference_steps=4)
    return dataclasses.replace(tiny_config, sampling=sampling, distillation=DistillationConfig(str(trained_run)))


def test_a_student_starts_from_its_teacher_and_is_sampled_by_lcm(student, trained_run):
    without_training = changed(student, "optimizer", lr=1e-12)
    run = train(without_training)
    theirs, own = (load_file(folder / "unet/diffusion_pytorch_model.safetensors") for folder in (trained_run, run))
    assert all(torch.allclose(theirs[name], own[name], atol=1e-6) for name in theirs)
    pipe = HalfFaceInpaintPipeline.from_pretrained(run)
    assert isinstance(pipe.scheduler, LCMScheduler) and few_steps(pipe.scheduler) == thorough(pipe.scheduler)
    assert few_steps(pipe.scheduler) == ("lcm", 4) and pipe.config.distilled_steps == [1, 2, 3, 4]
    checkpoint = load_pipeline(str(last_checkpoint(without_training)))
    assert few_steps(checkpoint.scheduler) == ("lcm", 4) and checkpoint.config.distilled_steps == [1, 2, 3, 4]
    with pytest.raises(ValueError, match="num_inference_steps is 5; this model was distilled for 1, 2, 3, 4 steps"):
        pipe(torch.rand(3, 10, 16), num_inference_steps=5)
    with pytest.raises(ValueError, match=r"scheduler is 'dpm\+\+'; a distilled model is sampled by lcm alone"):
        make_sampler("dpm++", pipe.scheduler)
    generic = DiffusionPipeline.from_pretrained(run, custom_pipeline=str(run), trust_remote_code=True)
    half = torch.rand(3, 10, 16, generator=torch.Generator().manual_seed(0))
    for steps in (1, 2, 4):
        images = [
            each(half, 2, steps, torch.Generator().manual_seed(1), output_type="pt").images for each in (pipe, generic)
        ]
        assert torch.equal(*images)


def test_completing_takes_the_steps_of_a_distilled_model(student, tmp_path, capsys):
    run = train(student)
    main(["faces", "1", "--out", str(tmp_path / "faces"), "--size", "20x16"])
    photo = next((tmp_path / "faces").glob("*.png"))
    main(["complete", str(photo), "--model", str(run), "--crop", "centre", "--out", str(tmp_path / "out"), "-n", "2"])
    assert "lcm, 4 steps" in capsys.readouterr().err


@pytest.mark.slow
def test_a_student_cut_and_resumed_ends_with_the_same_bits(student, tmp_path, monkeypatch):
    whole, cut = (changed(student, "output", dir=str(tmp_path / name)) for name in ("whole", "cut"))
    train(whole)
    interrupt_at(monkeypatch, 3)
    with pytest.raises(TrainingStopped):
        train(cut)
    train(cut)
    first, second = (load_file(last_checkpoint(config) / "network.safetensors") for config in (whole, cut))
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize(
    ("section", "values", "message"),
    [
        (
            "sampling",
            {"scheduler": "dpm++"},
            "sampling.scheduler is 'dpm\\+\\+'; it must be lcm with distillation.teacher",
        ),
        ("sampling", {"num_inference_steps": 5}, "sampling.num_inference_steps is 5; it must be at most"),
        ("model", {"init_from": "drawn"}, "model.init_from is 'drawn'; it must be null"),
        ("distillation", {"num_steps": 3}, "distillation.num_steps is 3; it must be 1, 2 or 4"),
        (
            "distillation",
            {"teacher": None},
            "distillation.teacher is None; it must be a model, for",
        ),
        ("objective", {"min_snr_gamma": 5.0}, "objective.min_snr_gamma is 5.0; it must be null"),
    ],
)
def test_settings_that_do_not_fit_are_named(student, section, values, message):
    with pytest.raises(ValueError, match=message):
        changed(student, section, **values)


def test_a_teacher_of_another_network_is_refused(student):
    other = changed(student, "model", block_out_channels=(8, 8))
    with pytest.raises(ValueError, match=r"distillation.teacher is .*; its .* is .*, that of this configuration"):
        train(other)


def test_a_teacher_of_other_noise_is_refused(student):
    with pytest.raises(ValueError, match=r"distillation.teacher was trained under .*'beta_end': 0.02"):
        train(changed(student, "noise", beta_end=0.03))


def test_a_distilled_teacher_is_refused(student, tmp_path):
    first = train(student)
    with pytest.raises(ValueError, match=r"distillation\.teacher is .*; it must not be distilled itself"):
        train(changed(changed(student, "distillation", teacher=str(first)), "output", dir=str(tmp_path / "second")))


def test_the_default_configuration_trains_a_denoiser():
    assert Config().distillation.teacher is None
