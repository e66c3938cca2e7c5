"""The page of `halfface app`: its components, the handler that each event calls, and its server."""

import html
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr

from ..diffusion.halves import KNOWN_HALF
from ..diffusion.samplers import few_steps
from ..inference.photos import example_faces
from ..remote_code.pipeline import HalfFaceInpaintPipeline
from .crop import SLIDERS
from .handlers import LARGEST_SEED, MOST_COMPLETIONS, Handlers, note, show_columns

KEPT_MINUTES = 30
CHECK_SECONDS = 60
WAITING = 40
"""Requests that may wait; later ones are refused."""
SESSIONS = 200
"""Visitors whose settings are kept in memory."""
NUM_EXAMPLES = 5
FOR_SCREEN_READERS = """() => {
    const name = () => document.querySelectorAll("#examples .gallery-item").forEach(
        (button, index) => button.setAttribute("aria-label", `Take example face ${index + 1}`));
    name();
    new MutationObserver(name).observe(document.body, {childList: true, subtree: true});
    document.querySelector("#status").setAttribute("role", "status");
}"""
"""Names the example buttons, which hold only a picture, and announces the number of completions."""


def build_page(pipe: HalfFaceInpaintPipeline, name: str, terms: str = "") -> gr.Blocks:
    """The page of a model, to be launched within `temporary_files`; arguments as in `serve`."""
    handlers = Handlers(pipe, name)
    delete_cache = (CHECK_SECONDS, KEPT_MINUTES * 60 - CHECK_SECONDS)
    with gr.Blocks(title="Half faces", analytics_enabled=False, delete_cache=delete_cache) as page:
        gr.HTML(_introduction(handlers, terms))
        with gr.Row(equal_height=False, elem_id="columns"):
            photo = _photo(handlers)
            results = _results(handlers)
            settings = _settings(handlers)
        _connect_photo(handlers, photo, settings)
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


def _introduction(handlers: Handlers, terms: str) -> str:
    hidden, (height, width) = handlers.hidden, handlers.shape
    trained_on = handlers.pipe.config.get("trained_on")
    trained = html.escape(terms or (f"trained on {trained_on}" if trained_on else ""))
    return (
        f'<div class="hf-intro"><h1>Show it half of a face</h1><p>It keeps the {KNOWN_HALF[hidden]} half of your '
        f"photo and generates {hidden} halves that could go with it. Model: {html.escape(handlers.name)}, {width} × "
        f'{height} pixels{"; " if trained else ""}{trained}.</p><div class="hf-note"><b>The {hidden} half is invented.'
        "</b> It shows what could be there, not what is. It identifies nobody; do not use it to identify, verify or "
        f"track people. Photos are deleted after {KEPT_MINUTES} minutes and used for nothing else.</div></div>"
    )


def _photo(handlers: Handlers) -> SimpleNamespace:
    """The photo and examples, and what takes their place: the frame around the face, and the buttons."""
    with gr.Column(min_width=320, elem_id="choosing") as choosing:
        image = gr.Image(
            type="filepath",
            sources=["upload", "webcam", "clipboard"],
            label="Photo",
            height=270,
            elem_id="photo",
            buttons=["fullscreen"],
            alt_text="The photo that was chosen",
        )
        label = "Or one of these faces, of people who do not exist"
        gr.Examples(_examples(handlers), image, label=label, elem_id="examples", api_visibility="private")
    with gr.Column(min_width=320, visible=False, elem_id="framing") as framing:
        _heading("Frame", "tap to move the cut line")
        preview = gr.Image(
            label="Frame",
            show_label=False,
            interactive=False,
            height=240,
            elem_id="frame",
            buttons=[],
            alt_text="The photo with the frame, the cut line and the hidden half shaded",
        )
        remarks = gr.HTML(elem_id="remarks", padding=False)
        with gr.Row():
            start = gr.Button("Complete", variant="primary", min_width=120, scale=3, elem_id="complete")
            again = gr.Button("New photo", min_width=120, scale=2, elem_id="again")
    shown = [preview, remarks, image, choosing, framing]
    return SimpleNamespace(image=image, preview=preview, start=start, again=again, shown=shown)


def _settings(handlers: Handlers) -> SimpleNamespace:
    """Which face, the place of the frame, number of completions, sampler, steps and seed."""
    with gr.Column(min_width=320, visible=False, elem_id="settings") as column:
        face = gr.Dropdown([1], value=1, label="Face", visible=False, elem_id="face")
        with gr.Accordion("Zoom, position and turn of the frame", open=False):
            sliders = []
            for place, (label, low, high, decimals) in SLIDERS.items():
                step = 10**-decimals
                sliders.append(gr.Slider(low, high, step=step, precision=decimals, label=label, elem_id=place))
                sliders[-1].value = None  # what a program leaves out is as for the largest face
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
    inputs = [*sliders, sampler, steps, seed, number]
    return SimpleNamespace(column=column, face=face, sliders=sliders, inputs=inputs)


def _results(handlers: Handlers) -> SimpleNamespace:
    """Progress, the chosen completion in the photo and as the model made it, all completions, and their download."""
    with gr.Column(min_width=320, elem_id="results"):
        with gr.Row(elem_id="progress"):
            hint = note("Choose a photo, then press Complete.")
            status = gr.HTML(hint, label="Progress", elem_id="status", padding=False)
            stop = gr.Button("Stop", min_width=80, scale=0, visible=False, elem_id="stop")
        with gr.Column(visible=False) as column:
            large: dict[str, Any] = {"interactive": False, "min_width": 100, "show_label": False}
            buttons = ["download", "fullscreen"]
            alt = f"Your photo with the chosen completion; its {handlers.hidden} half is invented"
            pasted = gr.Image(label="Photo", height=400, buttons=buttons, elem_id="pasted", alt_text=alt, **large)
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
            with gr.Row(elem_id="pair"):
                with gr.Column():
                    _heading("What the model saw")
                    original = gr.Image(label="Original", buttons=[], alt_text="The photo inside the frame", **large)
                with gr.Column():
                    _heading("What it generated")
                    alt = f"The chosen completion; its {handlers.hidden} half is invented"
                    chosen = gr.Image(label="Completion", buttons=buttons, elem_id="chosen", alt_text=alt, **large)
            photos = gr.File(label="Photos", file_count="multiple", visible=False)
    outputs = [gallery, original, archive, status, photos]
    return SimpleNamespace(
        column=column,
        status=status,
        stop=stop,
        chosen=chosen,
        large=[chosen, pasted],
        gallery=gallery,
        photos=photos,
        outputs=outputs,
    )


# Uploads are passed as they are (preprocess=False): Handlers reads them, with its own limits and messages.
def _connect_photo(handlers: Handlers, photo: SimpleNamespace, settings: SimpleNamespace) -> None:
    shared: dict[str, Any] = {"preprocess": False, "api_visibility": "private", "show_progress": "hidden"}
    latest: dict[str, Any] = {**shared, "trigger_mode": "always_last", "concurrency_limit": 2}
    chosen = [*photo.shown, settings.column, settings.face, *settings.sliders]
    moved = [slider.change for slider in settings.sliders]
    gr.on(moved, handlers.show_frame, [photo.image, *settings.sliders], photo.shown[:2], **latest)
    # One answer shows the frame and places it: a second one could undo a quick visitor's move.
    photo.image.change(handlers.choose_photo, photo.image, chosen, **latest)
    settings.face.input(handlers.choose_photo, [photo.image, settings.face], chosen, **latest)
    photo.preview.select(handlers.centre_frame, photo.image, settings.sliders[1:3], **shared)
    photo.again.click(lambda: show_columns(None), None, chosen[2:6], **shared)


def _connect_results(
    handlers: Handlers, photo: SimpleNamespace, settings: SimpleNamespace, results: SimpleNamespace
) -> None:
    shared: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    gallery, large = results.gallery, results.large
    photo.start.click(
        lambda: (gr.Column(visible=True), gr.Button(visible=True), None, None),
        None,
        [results.column, results.stop, *large],
        **shared,
    )
    completing = photo.start.click(
        handlers.complete,
        [photo.image, *settings.inputs],
        results.outputs,
        preprocess=False,
        api_name="complete",
        show_progress_on=results.status,
        concurrency_limit=1,
    )
    completing.then(lambda: gr.Button(visible=False), None, results.stop, **shared)
    # After the end, or a last update of the generator could follow it.
    stopped = results.stop.click(lambda: None, cancels=[completing], **shared)
    stopped.then(lambda: (note("Stopped."), gr.Button(visible=False)), None, [results.status, results.stop], **shared)
    files = [gallery, results.photos]
    first = {"trigger_mode": "always_last", **shared}
    gallery.change(handlers.enlarge_first, [*files, results.chosen], large, preprocess=False, **first)
    gallery.select(handlers.enlarge, files, large, preprocess=False, **shared)


def _heading(text: str, more: str = "") -> gr.HTML:
    more = f" <small>· {more}</small>" if more else ""
    return gr.HTML(f'<div role="heading" aria-level="2" class="hf-head">{text}{more}</div>', padding=False)


def _examples(handlers: Handlers) -> list[str]:
    """Files of faces to try."""
    folder = Path(os.environ["GRADIO_TEMP_DIR"], "examples")
    folder.mkdir()
    files = []
    for number, face in enumerate(example_faces(handlers.pipe.config, NUM_EXAMPLES), start=1):
        files.append(str(folder / f"face-{number}.png"))
        face.save(files[-1])
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
