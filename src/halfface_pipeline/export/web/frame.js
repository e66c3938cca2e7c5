// The photo and the frame in it: the part that is completed, moved by hand, keys, wheel or two fingers.

import { readPhoto, resize } from "./photo.js";

const LARGEST_ZOOM = 5, MOVE = 0.03;

export class Frame {
  /** element: holds the canvas; width and height: of the model's images; scale: canvas pixels for each of theirs. */
  constructor(element, width, height, scale) {
    Object.assign(this, { element, width, height, photo: null, zoom: 1, centre: [0.5, 0.5], changed: () => {} });
    this.canvas = element.querySelector("canvas");
    [this.canvas.width, this.canvas.height] = [scale * width, scale * height];
    this.#listen();
  }

  /** Takes a file or a decoded picture instead of the photo; throws a line for the visitor. */
  async use(source) {
    const next = source instanceof Blob ? await readPhoto(source) : source;
    this.photo?.close();
    Object.assign(this, { photo: next, zoom: 1, centre: [0.5, 0.5] });
    this.#draw();
  }

  /** Left, top, width and height in the photo: the model's proportions, `zoom` times smaller than the largest such. */
  get box() {
    const { photo, width, height } = this;
    const scale = Math.min(photo.width / width, photo.height / height) / this.zoom;
    const sides = [width, height].map((side) => Math.max(1, Math.round(side * scale)));
    const inside = (place, side, whole) => Math.round(Math.min(Math.max(place * whole - side / 2, 0), whole - side));
    return [inside(this.centre[0], sides[0], photo.width), inside(this.centre[1], sides[1], photo.height), ...sides];
  }

  /** Moves the frame by parts of its size, and makes it `times` smaller. */
  move(across, down, times = 1) {
    if (!this.photo) return;
    const [left, top, width, height] = this.box;
    this.centre = [
      (left + width / 2 + across * width) / this.photo.width,
      (top + height / 2 + down * height) / this.photo.height,
    ];
    this.zoom = Math.min(Math.max(this.zoom * times, 1), LARGEST_ZOOM);
    this.#draw();
  }

  /** The framed part of the photo in the model's size. */
  image() {
    const [, , width, height] = this.box;
    const pen = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
    this.#paint(pen, width, height);
    return resize(pen.getImageData(0, 0, width, height), this.width, this.height);
  }

  #draw() {
    const pen = this.canvas.getContext("2d");
    pen.imageSmoothingQuality = "high";
    this.#paint(pen, this.canvas.width, this.canvas.height);
    this.changed();
  }

  #paint(pen, width, height) {
    pen.fillStyle = "white"; // transparency is laid over white
    pen.fillRect(0, 0, width, height);
    pen.drawImage(this.photo, ...this.box, 0, 0, width, height);
  }

  #listen() {
    const { element } = this, fingers = new Map();
    const spread = () => {
      const [a, b] = fingers.values();
      return Math.hypot(a[0] - b[0], a[1] - b[1]);
    };
    element.addEventListener("pointerdown", (event) => {
      fingers.set(event.pointerId, [event.clientX, event.clientY]);
      element.setPointerCapture(event.pointerId);
    });
    element.addEventListener("pointermove", (event) => {
      const before = fingers.get(event.pointerId), distance = fingers.size === 2 ? spread() : 0;
      if (!before) return;
      fingers.set(event.pointerId, [event.clientX, event.clientY]);
      if (distance) this.move(0, 0, spread() / distance);
      else this.move((before[0] - event.clientX) / element.clientWidth, (before[1] - event.clientY) / element.clientHeight);
    });
    for (const kind of ["pointerup", "pointercancel"])
      element.addEventListener(kind, (event) => fingers.delete(event.pointerId));
    element.addEventListener("wheel", (event) => {
      if (!this.photo) return;
      event.preventDefault();
      this.move(0, 0, event.deltaY < 0 ? 1.1 : 1 / 1.1);
    }, { passive: false });
    const keys = {
      ArrowLeft: [-MOVE, 0], ArrowRight: [MOVE, 0], ArrowUp: [0, -MOVE], ArrowDown: [0, MOVE],
      "+": [0, 0, 1.1], "-": [0, 0, 1 / 1.1],
    };
    element.addEventListener("keydown", (event) => {
      if (!this.photo || !keys[event.key]) return;
      event.preventDefault();
      this.move(...keys[event.key]);
    });
  }
}
