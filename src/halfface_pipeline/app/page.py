"""The page of `halfface app`: what stands where, and what calls which answer."""

from typing import Any

import gradio as gr
import PIL.Image

from ..data.procedural import faces
from ..diffusion.samplers import FEW_STEP_SAMPLER, FEW_STEPS
from ..remote_code.halves import KNOWN_HALF
from .answers import LARGEST_SEED, MOST_COMPLETIONS, Answers, idle
from .kept import EXAMPLES, KEPT_SECONDS, SWEEP_SECONDS
from .photos import LARGEST_ZOOM

WAITING = 40
"""Requests that may wait; the next one is told to come back later."""
EXAMPLE_SEED = 2_000_003
"""Of a set of procedural faces that no configuration trains on."""
NUM_EXAMPLES = 5
EXAMPLE_HEIGHT = 240


def build_page(answers: Answers) -> gr.Blocks:
    """The page around a model.

    Args:
        answers: What it does.

    Returns:
        The page, to be launched.
    """
    hidden, (height, width) = answers.hidden, answers.shape
    private: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    with gr.Blocks(title="Half faces", analytics_enabled=False, delete_cache=(SWEEP_SECONDS, KEPT_SECONDS)) as page:
        gr.HTML(
            f'<div class="hf-intro"><h1>Show it half of a face</h1><p>It keeps the {KNOWN_HALF[hidden]} half of your '
            f"photo and draws other {hidden} halves that could go with it. Model: {answers.name}, {width} × {height} "
            f'pixels.</p><div class="hf-note"><b>The {hidden} half is invented.</b> It shows what could be there, not '
            "what is. It identifies nobody; do not use it to identify, verify or watch people. Photos are deleted "
            f"after about {KEPT_SECONDS // 60} minutes and used for nothing else.</div></div>"
        )
        with gr.Row(equal_height=False):
            with gr.Column(min_width=320):
                photo = gr.Image(
                    type="filepath",
                    sources=["upload", "webcam", "clipboard"],
                    label="Photo",
                    height=270,
                    elem_id="photo",
                    buttons=["fullscreen"],
                    alt_text="The photo that was chosen",
                )
                gr.Examples(
                    _examples(answers),
                    photo,
                    label="Or one of these drawn faces",
                    elem_id="examples",
                    api_visibility="private",
                )
                with gr.Column(visible=False, elem_id="framing") as framing:
                    _heading(
                        "Frame", "the cut line goes through the middle of the face: tap there, or use the sliders"
                    )
                    preview = gr.Image(
                        label="Frame",
                        show_label=False,
                        interactive=False,
                        height=270,
                        elem_id="frame",
                        buttons=[],
                        alt_text="The photo with the frame, the cut line and the hidden half shaded",
                    )
                    zoom = gr.Slider(1, LARGEST_ZOOM, 1, step=0.05, label="Zoom", elem_id="zoom")
                    across = gr.Slider(-1, 1, 0, step=0.01, label="Left or right", elem_id="across")
                    down = gr.Slider(-1, 1, 0, step=0.01, label="Up or down", elem_id="down")
            with gr.Column(min_width=320):
                number = gr.Slider(1, MOST_COMPLETIONS, 8, step=1, label="Completions", elem_id="number")
                with gr.Accordion("Sampler, steps and seed", open=False):
                    names, steps = answers.samplers, min(FEW_STEPS, answers.most_steps)
                    usual = FEW_STEP_SAMPLER if FEW_STEP_SAMPLER in names else names[0]
                    method = gr.Dropdown(names, value=usual, label="Sampler", elem_id="sampler")
                    count = gr.Slider(1, answers.most_steps, steps, step=1, label="Steps", elem_id="steps")
                    seed = gr.Number(0, label="Seed", precision=0, minimum=0, maximum=LARGEST_SEED, elem_id="seed")
                    other = gr.Button("Another seed", size="sm")
                with gr.Row():
                    start = gr.Button("Complete", variant="primary", min_width=120, scale=3, elem_id="complete")
                    stop = gr.Button("Stop", min_width=80, scale=1, elem_id="stop")
                status = gr.HTML(
                    idle("Choose a photo, then press Complete."), label="Progress", elem_id="status", padding=False
                )
                with gr.Column(visible=False, elem_id="results") as results:
                    with gr.Row(elem_id="pair"):
                        large: dict[str, Any] = {"interactive": False, "min_width": 100, "show_label": False}
                        with gr.Column():
                            _heading("Original")
                            alt = "The photo inside the frame"
                            original = gr.Image(label="Original", buttons=[], alt_text=alt, **large)
                        with gr.Column():
                            _heading("Completion")
                            chosen = gr.Image(
                                label="Completion",
                                buttons=["download", "fullscreen"],
                                elem_id="chosen",
                                alt_text=f"The chosen completion; its {hidden} half is invented",
                                **large,
                            )
                    _heading("All completions", "choose one to see it large")
                    gallery = gr.Gallery(
                        label="Completions",
                        show_label=False,
                        columns=4,
                        height="auto",
                        fit_columns=False,
                        allow_preview=False,
                        buttons=[],
                        interactive=False,
                        object_fit="contain",
                        elem_id="faces",
                    )
                    archive = gr.DownloadButton("Download all (zip)", elem_id="download")

        # Uploads come as they are (preprocess=False): reading them, and saying what is wrong with them, is ours.
        place = [zoom, across, down]
        gr.on(
            [zoom.change, across.change, down.change],
            answers.show_frame,
            [photo, *place],
            [preview, photo, framing],
            preprocess=False,
            trigger_mode="always_last",
            concurrency_limit=2,
            **private,
        )
        # The frame goes back to the middle in the same answer: in one of its own it could undo a quick visitor's move.
        photo.change(
            lambda photo: (*answers.show_frame(photo, 1, 0, 0), 1, 0, 0),
            photo,
            [preview, photo, framing, *place],
            preprocess=False,
            trigger_mode="always_last",
            concurrency_limit=2,
            **private,
        )
        preview.select(answers.centre_frame, [photo, zoom], [across, down], preprocess=False, **private)
        other.click(answers.another_seed, None, seed, **private)
        start.click(lambda: (gr.Column(visible=True), None), None, [results, chosen], **private)
        drawing = start.click(
            answers.complete,
            [photo, *place, method, count, seed, number],
            [gallery, original, archive, status],
            preprocess=False,
            api_name="complete",
            show_progress="hidden",
            concurrency_limit=1,
        )
        # Said after the end: a last word of the drawing could follow it otherwise.
        stopped = stop.click(lambda: None, cancels=[drawing], **private)
        stopped.then(lambda: idle("Stopped."), None, status, **private)
        gallery.change(
            answers.enlarge_first,
            [gallery, chosen],
            chosen,
            preprocess=False,
            trigger_mode="always_last",
            **private,
        )
        gallery.select(answers.enlarge, gallery, chosen, preprocess=False, **private)
    return page.queue(max_size=WAITING)


def _heading(text: str, more: str = "") -> gr.HTML:
    more = f" <small>· {more}</small>" if more else ""
    return gr.HTML(f'<div role="heading" aria-level="2" class="hf-head">{text}{more}</div>', padding=False)


def _examples(answers: Answers) -> list[str]:
    """Procedural faces in the proportions of the model's images."""
    height, width = (side * max(1, round(EXAMPLE_HEIGHT / answers.shape[0])) for side in answers.shape)
    folder = answers.kept / EXAMPLES
    folder.mkdir()
    images, _ = faces(NUM_EXAMPLES, height, width, seed=EXAMPLE_SEED)
    files = [folder / f"drawn-face-{number}.png" for number in range(1, NUM_EXAMPLES + 1)]
    for image, file in zip(images, files, strict=True):
        PIL.Image.fromarray(image).save(file)
    return [str(file) for file in files]
