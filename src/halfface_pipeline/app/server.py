"""The server of `halfface app`."""

import signal
import threading
from pathlib import Path

import gradio as gr
from starlette.middleware import Middleware

from ..remote_code.pipeline import HalfFaceInpaintPipeline
from .addresses import FolderRenamed
from .answers import Answers
from .page import build_page

SESSIONS = 200
"""Visitors whose settings are kept in memory."""
CSS = Path(__file__).with_name("page.css")
FOR_SCREEN_READERS = """() => {
    const said = document.createElement("div");
    said.id = "said";
    said.setAttribute("role", "status");
    const look = () => {
        document.querySelectorAll("#examples .gallery-item").forEach(
            (button, index) => button.setAttribute("aria-label", `Take drawn face ${index + 1}`));
        const line = document.querySelector("#status .hf-status > div")?.firstChild?.textContent.trim() ?? "";
        if (said.textContent !== line) said.textContent = line;
    };
    document.querySelector(".gradio-container").append(said);
    look();
    new MutationObserver(look).observe(document.body, {childList: true, subtree: true, characterData: true});
}"""
"""The examples are buttons with a picture and no name, which gradio may draw late or anew. How many completions are
done is said when it changes; seconds and steps, which change all the time, are not."""


def serve(
    pipe: HalfFaceInpaintPipeline,
    name: str,
    kept: Path,
    host: str | None = None,
    port: int | None = None,
    upload_mb: float = 20,
) -> None:
    """Shows the page until Ctrl-C or SIGTERM.

    Args:
        pipe: The model.
        name: What the model is called.
        kept: The folder of `nothing_kept`, which is gone afterwards.
        host: As in `launch`.
        port: As in `launch`.
        upload_mb: As in `launch`.

    Raises:
        ValueError: If the port cannot be had.
    """
    ended = threading.Event()
    signals = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(each, lambda *_: ended.set()) for each in signals]
    page = build_page(Answers(pipe, name, kept))
    try:
        address = launch(page, kept, host, port, upload_mb)
        print(f"{address} shows the page; Ctrl-C ends it", flush=True)
        ended.wait()
    except OSError:
        raise ValueError(f"--port is {port}; nothing can listen there: take another one") from None
    finally:
        page.close(verbose=False)
        for each, handler in zip(signals, before, strict=True):
            signal.signal(each, handler)


def launch(page: gr.Blocks, kept: Path, host: str | None, port: int | None, upload_mb: float) -> str:
    """Starts the server and returns.

    Args:
        page: From `build_page`.
        kept: The folder of `nothing_kept`, whose path no answer tells.
        host: Address to listen at; none takes GRADIO_SERVER_NAME, or this machine only.
        port: Port to listen at; none takes GRADIO_SERVER_PORT, or the first free one from 7860.
        upload_mb: Largest upload in megabytes.

    Returns:
        The page's address.
    """
    address: str = page.launch(
        server_name=host,
        server_port=port,
        max_file_size=int(upload_mb * 2**20),
        prevent_thread_lock=True,
        share=False,
        quiet=True,
        show_error=False,  # the text of an error nobody has thought of could name paths
        ssr_mode=False,
        run_history=False,
        footer_links=["api"],
        state_session_capacity=SESSIONS,
        theme=_theme(),
        css_paths=CSS,
        js=FOR_SCREEN_READERS,
        app_kwargs={"middleware": [Middleware(FolderRenamed, folder=kept)]},
    )[1]
    return address


def _theme() -> gr.themes.Base:
    """Fonts of the visitor's own system, so that the page asks no other server; text that can be read."""
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
