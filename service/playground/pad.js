// A pad to draw on with mouse, finger, pen or keys. Its strokes are kept, so that one can be taken back.

const WIDTH_SHARE = 0.085; // of a stroke, by the pad's height
const STEP_SHARE = 0.04; // of an arrow key
const SENT_HEIGHT = 112; // four times what the networks take; more would only be scaled down by the server
const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export class Pad {
  /** `cursor` is an element that shows where keys draw. */
  constructor(canvas, cursor, onChange) {
    this.canvas = canvas;
    this.cursor = cursor;
    this.strokes = [];
    this.onChange = onChange;
    this.painted = 0; // points of the last stroke that are on the canvas
    this.at = [0.5, 0.3]; // of the keys, as shares of the pad
    this.writing = false;
    canvas.addEventListener("keydown", (event) => this.#key(event));
    canvas.addEventListener("blur", () => this.#point(false));
    canvas.addEventListener("pointerdown", (event) => this.#begin(event));
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => (this.drawing = false));
  }

  get empty() {
    return this.strokes.length === 0;
  }

  /** Make the pad as wide, for its height, as the network's input. */
  shape(width, height) {
    const pixels = Math.round((this.canvas.height * width) / height);
    if (pixels !== this.canvas.width) {
      this.canvas.width = pixels;
      this.#repaint();
    }
  }

  clear() {
    this.strokes = [];
    this.#repaint();
    this.onChange();
  }

  undo() {
    this.strokes.pop();
    this.#repaint();
    this.onChange();
  }

  /** The drawing as a PNG, black on white. */
  picture() {
    const small = document.createElement("canvas");
    small.height = SENT_HEIGHT;
    small.width = Math.round((SENT_HEIGHT * this.canvas.width) / this.canvas.height);
    const context = small.getContext("2d");
    context.imageSmoothingQuality = "high";
    context.drawImage(this.canvas, 0, 0, small.width, small.height);
    return new Promise((resolve) => small.toBlob(resolve, "image/png"));
  }

  /** Arrows move, space begins and ends a stroke, escape ends it. */
  #key(event) {
    if (event.key === " " || event.key === "Escape") {
      this.#point(event.key === " " && !this.writing);
      if (this.writing) {
        this.strokes.push([]);
        this.painted = 0;
        this.#extend([this.#pixels()]);
      }
    } else if (event.key in STEPS) {
      const [right, down] = STEPS[event.key];
      const across = (STEP_SHARE * this.canvas.height) / this.canvas.width;
      const within = (share) => Math.min(1, Math.max(0, share));
      this.at = [within(this.at[0] + right * across), within(this.at[1] + down * STEP_SHARE)];
      this.#point(this.writing);
      if (this.writing) this.#extend([this.#pixels()]);
    } else return;
    event.preventDefault();
  }

  #pixels() {
    return [this.at[0] * this.canvas.width, this.at[1] * this.canvas.height];
  }

  #point(writing) {
    this.writing = writing;
    this.cursor.classList.toggle("writing", writing);
    this.cursor.style.left = `${100 * this.at[0]}%`;
    this.cursor.style.top = `${100 * this.at[1]}%`;
  }

  #begin(event) {
    if (event.button > 0) return;
    event.preventDefault();
    this.canvas.focus();
    this.canvas.setPointerCapture(event.pointerId);
    this.drawing = true;
    this.painted = 0;
    this.strokes.push([]);
    this.#add([event]);
  }

  #move(event) {
    if (!this.drawing) return;
    // A fast pen has several positions for one event.
    const several = event.getCoalescedEvents ? event.getCoalescedEvents() : [];
    this.#add(several.length ? several : [event]);
  }

  #add(events) {
    const box = this.canvas.getBoundingClientRect();
    this.#extend(events.map((event) => [
      ((event.clientX - box.left) * this.canvas.width) / box.width,
      ((event.clientY - box.top) * this.canvas.height) / box.height,
    ]));
  }

  #extend(points) {
    const stroke = this.strokes.at(-1);
    stroke.push(...points);
    this.#paint(stroke, Math.max(0, this.painted - 1));
    this.painted = stroke.length;
    this.onChange();
  }

  #repaint() {
    const context = this.canvas.getContext("2d");
    context.fillStyle = "white";
    context.fillRect(0, 0, this.canvas.width, this.canvas.height);
    for (const stroke of this.strokes) this.#paint(stroke, 0);
  }

  #paint(stroke, from) {
    const context = this.canvas.getContext("2d");
    context.strokeStyle = "black";
    context.lineWidth = this.canvas.height * WIDTH_SHARE;
    context.lineCap = context.lineJoin = "round";
    context.beginPath();
    context.moveTo(...stroke[from]);
    for (const point of stroke.slice(from)) context.lineTo(...point);
    context.stroke();
  }
}
