"""The page of `halfface app`: its components, the handler that each event calls, and its server."""

import html
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import PIL.Image

from ..data.frames import DRAWN
from ..data.procedural import faces
from ..diffusion.halves import KNOWN_HALF
from ..diffusion.samplers import few_steps
from ..remote_code.pipeline import HalfFaceInpaintPipeline
from .crop import LARGEST_ZOOM
from .handlers import LARGEST_SEED, MOST_COMPLETIONS, Handlers, note

KEPT_MINUTES = 30
CHECK_SECONDS = 60
WAITING = 40
"""Requests that may wait; later ones are refused."""
SESSIONS = 200
"""Visitors whose settings are kept in memory."""
EXAMPLE_SEED = 2_000_003
"""Procedural faces that no configuration trains on."""
NUM_EXAMPLES = 5
EXAMPLE_HEIGHT = 240
FOR_SCREEN_READERS = """() => {
    const name = () => document.querySelectorAll("#examples .gallery-item").forEach(
        (button, index) => button.setAttribute("aria-label", `Take drawn face ${index + 1}`));
    name();
    new MutationObserver(name).observe(document.body, {childList: true, subtree: true});
    document.querySelector("#status").setAttribute("role", "status");
}"""
"""Names the example buttons, which hold only a picture, and announces the number of completions."""


def build_page(pipe: HalfFaceInpaintPipeline, name: str) -> gr.Blocks:
    """The page of a model called `name`, to be launched within `temporary_files`."""
    handlers = Handlers(pipe, name)
    delete_cache = (CHECK_SECONDS, KEPT_MINUTES * 60 - CHECK_SECONDS)
    with gr.Blocks(title="Half faces", analytics_enabled=False, delete_cache=delete_cache) as page:
        gr.HTML(_introduction(handlers))
        with gr.Row(equal_height=False):
            with gr.Column(min_width=320):
                photo = _photo(handlers)
            with gr.Column(min_width=320):
                settings = _settings(handlers)
                results = _results(handlers)
        _connect_photo(handlers, photo)
        _connect_results(handlers, photo, settings, results)
    return page.queue(max_size=WAITING)


def launch(page: gr.Blocks, host: str | None, port: int | None, upload_mb: float) -> str:
    """Starts the server and returns the page's address; arguments as in `serve`."""
    address: str = page.launch(
        server_name=host,
        server_port=port,
        max_file_size=int(upload_mb * 2**20),
        prevent_thread_lock=True,
        share=False,
        quiet=True,
        show_error=False,  # the text of an unexpected error could name paths
        ssr_mode=False,
        run_history=False,
        footer_links=["api"],
        state_session_capacity=SESSIONS,
        theme=_theme(),
        css_paths=Path(__file__).with_name("page.css"),
        js=FOR_SCREEN_READERS,
    )[1]
    return address


def _introduction(handlers: Handlers) -> str:
    hidden, (height, width) = handlers.hidden, handlers.shape
    return (
        f'<div class="hf-intro"><h1>Show it half of a face</h1><p>It keeps the {KNOWN_HALF[hidden]} half of your '
        f"photo and generates {hidden} halves that could go with it. Model: {handlers.name}, {width} × {height} "
        f'pixels{_training(handlers)}.</p><div class="hf-note"><b>The {hidden} half is invented.</b> It shows what '
        "could be there, not what is. It identifies nobody; do not use it to identify, verify or track people. Photos "
        f"are deleted after {KEPT_MINUTES} minutes and used for nothing else.</div></div>"
    )


def _training(handlers: Handlers) -> str:
    """What the model was trained on, and what follows for photos."""
    trained_on = handlers.pipe.config.get("trained_on")
    if trained_on == DRAWN:
        return ", trained on drawn faces: in a photo the half looks drawn"
    return f", trained on {html.escape(trained_on)}" if trained_on else ""


def _photo(handlers: Handlers) -> SimpleNamespace:
    """The photo, examples, and the frame around the face."""
    image = gr.Image(
        type="filepath",
        sources=["upload", "webcam", "clipboard"],
        label="Photo",
        height=270,
        elem_id="photo",
        buttons=["fullscreen"],
        alt_text="The photo that was chosen",
    )
    label = "Or one of these drawn faces"
    gr.Examples(_examples(handlers.shape), image, label=label, elem_id="examples", api_visibility="private")
    with gr.Column(visible=False, elem_id="framing") as framing:
        _heading("Frame", "the cut line goes through the middle of the face: tap there, or use the sliders")
        preview = gr.Image(
            label="Frame",
            show_label=False,
            interactive=False,
            height=270,
            elem_id="frame",
            buttons=[],
            alt_text="The photo with the frame, the cut line and the hidden half shaded",
        )
        place = [
            gr.Slider(1, LARGEST_ZOOM, 1, step=0.05, label="Zoom", elem_id="zoom"),
            gr.Slider(-1, 1, 0, step=0.01, label="Left or right", elem_id="across"),
            gr.Slider(-1, 1, 0, step=0.01, label="Up or down", elem_id="down"),
        ]
    return SimpleNamespace(image=image, framing=framing, preview=preview, place=place)


def _settings(handlers: Handlers) -> SimpleNamespace:
    """Number of completions, sampler, steps, seed, and the buttons."""
    number = gr.Slider(1, MOST_COMPLETIONS, 8, step=1, label="Completions", elem_id="number")
    with gr.Accordion("Sampler, steps and seed", open=False):
        names, (default, few) = handlers.samplers, few_steps(handlers.pipe.scheduler)
        default = default if default in names else names[0]
        sampler = gr.Dropdown(names, value=default, label="Sampler", elem_id="sampler")
        steps = gr.Slider(
            1, handlers.most_steps, min(few, handlers.most_steps), step=1, label="Steps", elem_id="steps"
        )
        seed = gr.Number(0, label="Seed", precision=0, minimum=0, maximum=LARGEST_SEED, elem_id="seed")
        other = gr.Button("Another seed", size="sm")
        other.click(handlers.another_seed, None, seed, api_visibility="private", show_progress="hidden")
    with gr.Row():
        start = gr.Button("Complete", variant="primary", min_width=120, scale=3, elem_id="complete")
        stop = gr.Button("Stop", min_width=80, scale=1, elem_id="stop")
    return SimpleNamespace(inputs=[sampler, steps, seed, number], start=start, stop=stop)


def _results(handlers: Handlers) -> SimpleNamespace:
    """Progress, the chosen completion next to the original, all completions, and their download."""
    hint = note("Choose a photo, then press Complete.")
    status = gr.HTML(hint, label="Progress", elem_id="status", padding=False)
    with gr.Column(visible=False, elem_id="results") as column:
        with gr.Row(elem_id="pair"):
            large: dict[str, Any] = {"interactive": False, "min_width": 100, "show_label": False}
            with gr.Column():
                _heading("Original")
                original = gr.Image(label="Original", buttons=[], alt_text="The photo inside the frame", **large)
            with gr.Column():
                _heading("Completion")
                alt = f"The chosen completion; its {handlers.hidden} half is invented"
                buttons = ["download", "fullscreen"]
                chosen = gr.Image(label="Completion", buttons=buttons, elem_id="chosen", alt_text=alt, **large)
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
    outputs = [gallery, original, archive, status]
    return SimpleNamespace(column=column, status=status, chosen=chosen, gallery=gallery, outputs=outputs)


# Uploads are passed as they are (preprocess=False): Handlers reads them, with its own limits and messages.
def _connect_photo(handlers: Handlers, photo: SimpleNamespace) -> None:
    shared: dict[str, Any] = {"preprocess": False, "api_visibility": "private", "show_progress": "hidden"}
    latest: dict[str, Any] = {**shared, "trigger_mode": "always_last", "concurrency_limit": 2}
    shown = [photo.preview, photo.image, photo.framing]
    moved = [slider.change for slider in photo.place]
    gr.on(moved, handlers.show_frame, [photo.image, *photo.place], shown, **latest)
    # One answer shows the frame and places it: a second one could undo a quick visitor's move.
    photo.image.change(handlers.first_frame, photo.image, [*shown, *photo.place], **latest)
    photo.preview.select(handlers.centre_frame, [photo.image, photo.place[0]], photo.place[1:], **shared)


def _connect_results(
    handlers: Handlers, photo: SimpleNamespace, settings: SimpleNamespace, results: SimpleNamespace
) -> None:
    shared: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    gallery, chosen = results.gallery, results.chosen
    settings.start.click(lambda: (gr.Column(visible=True), None), None, [results.column, chosen], **shared)
    completing = settings.start.click(
        handlers.complete,
        [photo.image, *photo.place, *settings.inputs],
        results.outputs,
        preprocess=False,
        api_name="complete",
        show_progress_on=results.status,
        concurrency_limit=1,
    )
    # After the end, or a last update of the generator could follow it.
    stopped = settings.stop.click(lambda: None, cancels=[completing], **shared)
    stopped.then(lambda: note("Stopped."), None, results.status, **shared)
    first = handlers.enlarge_first
    gallery.change(first, [gallery, chosen], chosen, preprocess=False, trigger_mode="always_last", **shared)
    gallery.select(handlers.enlarge, gallery, chosen, preprocess=False, **shared)


def _heading(text: str, more: str = "") -> gr.HTML:
    more = f" <small>· {more}</small>" if more else ""
    return gr.HTML(f'<div role="heading" aria-level="2" class="hf-head">{text}{more}</div>', padding=False)


def _examples(shape: tuple[int, int]) -> list[str]:
    """Procedural faces in the proportions of the model's images."""
    height, width = (side * max(1, round(EXAMPLE_HEIGHT / shape[0])) for side in shape)
    folder = Path(os.environ["GRADIO_TEMP_DIR"], "examples")
    folder.mkdir()
    files = [str(folder / f"drawn-face-{number}.png") for number in range(1, NUM_EXAMPLES + 1)]
    for image, file in zip(faces(NUM_EXAMPLES, height, width, seed=EXAMPLE_SEED)[0], files, strict=True):
        PIL.Image.fromarray(image).save(file)
    return files


def _theme() -> gr.themes.Base:
    """System fonts, so that the page loads nothing from other servers, and readable contrast."""
    plain: dict[str, str] = {}
    for name, value in {
        "block_border_width": "1px",
        "block_title_background_fill": "transparent",
        "block_title_text_color": "*body_text_color",
        "block_label_background_fill": "*background_fill_primary",
        "block_label_text_color": "*body_text_color",
        "button_primary_background_fill": "*primary_600",
        "button_primary_background_fill_hover": "*primary_700",
    }.items():
        plain |= {name: value, f"{name}_dark": value}
    theme = gr.themes.Soft(
        primary_hue="indigo",
        neutral_hue="slate",
        font=["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"],
        font_mono=["ui-monospace", "Menlo", "Consolas", "monospace"],
    )
    return theme.set(
        body_background_fill="*neutral_50",
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_300",
        button_secondary_background_fill="*neutral_200",
        button_secondary_background_fill_hover="*neutral_300",
        block_title_padding="0",
        input_background_fill="*neutral_100",
        **plain,
    )
